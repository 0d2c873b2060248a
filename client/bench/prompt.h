#pragma once
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "client/bench/plan.h"

namespace tandem::bench {

// The prompt of the plan's request number `index`: token ids drawn from [0, vocabulary) by seed and
// place, so that requests share exactly the tokens that the plan says they share.
std::vector<int32_t> MakePrompt(const PlannedRequest& request, uint64_t index, uint64_t seed,
                                uint32_t vocabulary);

// InvalidArgument says how many requests are too long for `max_context` tokens, the longest, and
// what cuts them.
absl::Status CheckFits(const Plan& plan, uint32_t max_context);

}  // namespace tandem::bench
