#pragma once
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "client/bench/plan.h"
#include "client/bench/random.h"

namespace tandem::bench {

// The prompt of a plan's request: token ids drawn from [0, vocabulary) by seed and place, so that
// requests share exactly the tokens that the plan says they share. `own`: which stream the tokens
// that are not shared come from, and with `index` which of its prompts.
std::vector<int32_t> MakePrompt(const PlannedRequest& request, uint64_t index, uint64_t seed,
                                uint32_t vocabulary, Stream own);

// InvalidArgument says how many requests are too long for `max_context` tokens, the longest, and
// what cuts them.
absl::Status CheckFits(const Plan& plan, uint32_t max_context);

}  // namespace tandem::bench
