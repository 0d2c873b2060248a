#pragma once
#include <vector>

#include "worker/model/spec.h"

namespace tandem {

// The rotary frequencies of a spec, [head_dim / 2], in radians a token: the pair i of a head is
// rotated by position * frequency[i]. Computed in double, rounded once.
std::vector<float> RopeFrequencies(const RopeSpec& rope, int32_t head_dim);

}  // namespace tandem
