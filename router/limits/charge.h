#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "router/store/limit_rule.h"
#include "router/store/limit_store.h"
#include "router/store/usage.h"

// From rules to counters, and from tokens to what each counter is charged. Pure.
namespace tandem {

// Of a call, before it starts.
struct CallEstimate {
  int64_t prompt_tokens = 0;  // exact
  int64_t output_tokens = 0;  // the most that it may produce: n * max_tokens
  int64_t money_nano = 0;     // of both, in `currency`
  std::string currency;
};

// Of a call, when it is over: the tokens that were delivered, and what they cost.
struct CallUse {
  TokenUsage tokens;
  int64_t money_nano = 0;
  std::string currency;
};

// What the call has to ask the counters of these rules for, in their order. Of tokens it asks for
// the estimate, is content with what is left if that covers the prompt and one token, and asks for
// more as the answer grows.
//   units   tokens in thousandths, by the rules' weights; else those of the rule's amount
//   errors  InvalidArgument the prompt alone is more than a counter holds, both numbers named;
//           FailedPrecondition a rule about money in another currency than the model's
//           price, unless it is a shadow: that counts nothing then
absl::StatusOr<std::vector<LimitCharge>> ChargesOf(absl::Span<const LimitRule> rules,
                                                   const CallEstimate& estimate);
// What it was used for, in the same order.
std::vector<int64_t> UsedOf(absl::Span<const LimitRule> rules, const CallUse& use);
// In the unit of the rule's amount, rounded so that nothing is promised that isn't there.
int64_t RemainingOf(const LimitRule& rule, const LimitState& state);

}  // namespace tandem
