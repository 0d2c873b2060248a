#pragma once
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "client/bench/lengths.h"
#include "client/bench/plan.h"

namespace tandem::bench {

// Requests that are drawn, not read from a trace.
struct DrawnLoad {
  double rate = 0;                       // requests a second, > 0; infinite: all at once
  bool even = false;                     // at equal distances, not as a Poisson process
  absl::optional<uint32_t> requests;     // 1 to kRequestsMax
  absl::optional<absl::Duration> limit;  // none is due later than this
  Lengths input, output;
  uint32_t shared_tokens = 0;  // that all prompts begin with
  uint64_t seed = 0;           // the same seed gives the same plan
};

// Ends with `requests` or at `limit`, whatever comes first; one of them has to be given, and
// `requests` where the rate is infinite.
//   errors  InvalidArgument for a plan above the limits of plan.h
absl::StatusOr<Plan> DrawPlan(const DrawnLoad& load);

// A plan within the limits of plan.h, or why it is not.
absl::Status CheckPlan(const Plan& plan);

}  // namespace tandem::bench
