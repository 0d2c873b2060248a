#include "client/bench/arrivals.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem::bench {

absl::Status CheckPlan(const Plan& plan) {
  if (plan.empty()) return absl::InvalidArgumentError("there is no request to send in that time");
  if (plan.size() > kRequestsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", kRequestsMax, " requests; send fewer, or for a shorter time"));
  }
  uint64_t tokens = 0;
  for (const PlannedRequest& request : plan) tokens += request.output_tokens;
  if (tokens <= kOutputTokensMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the outputs have ", tokens,
                                                 " tokens together, more than ", kOutputTokensMax,
                                                 "; send fewer requests, or ask for less"));
}

absl::StatusOr<Plan> DrawPlan(const DrawnLoad& load) {
  Random arrivals(load.seed, Stream::kArrivals);
  Random inputs(load.seed, Stream::kInput);
  Random outputs(load.seed, Stream::kOutput);
  const size_t most = load.requests.value_or(kRequestsMax + 1);
  Plan plan;
  double at_s = 0;
  while (plan.size() < std::min(most, kRequestsMax + 1)) {
    PlannedRequest request;
    request.at = absl::Seconds(at_s);
    if (load.limit && request.at >= *load.limit) break;
    request.input_tokens = load.input.Draw(&inputs);
    request.output_tokens = load.output.Draw(&outputs);
    request.shared_tokens = std::min(load.shared_tokens, request.input_tokens);
    plan.push_back(std::move(request));
    if (!std::isinf(load.rate)) at_s += (load.even ? 1 : arrivals.Exponential()) / load.rate;
  }
  RETURN_IF_ERROR(CheckPlan(plan));
  return plan;
}

}  // namespace tandem::bench
