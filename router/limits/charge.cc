#include "router/limits/charge.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr int64_t kThousandths = 1000;

int64_t Saturate(__int128 value) {
  return static_cast<int64_t>(std::min<__int128>(value, std::numeric_limits<int64_t>::max()));
}

bool CountsTokens(LimitMetric metric) {
  return metric == LimitMetric::kInputTokens || metric == LimitMetric::kOutputTokens ||
         metric == LimitMetric::kTotalTokens;
}

int64_t UnitsOf(LimitMetric metric) { return CountsTokens(metric) ? kThousandths : 1; }

// In thousandths of a token.
int64_t Weighed(const LimitRule& rule, const TokenUsage& tokens) {
  __int128 sum = 0;
  if (rule.metric != LimitMetric::kOutputTokens) {
    sum += static_cast<__int128>(tokens.prompt - tokens.cached) * rule.weights.prompt +
           static_cast<__int128>(tokens.cached) * rule.weights.cached;
  }
  if (rule.metric != LimitMetric::kInputTokens) {
    sum += static_cast<__int128>(tokens.output) * rule.weights.output;
  }
  return Saturate(sum);
}

// The prompt as the dearer of its classes: how much of it a cache holds is not known yet.
TokenUsage AtMost(const LimitRule& rule, int64_t prompt, int64_t output) {
  const bool cached_is_dearer = rule.weights.cached > rule.weights.prompt;
  return {.prompt = prompt, .cached = cached_is_dearer ? prompt : 0, .output = output};
}

int64_t CostOf(const LimitRule& rule, const TokenUsage& tokens, int64_t money_nano) {
  if (CountsTokens(rule.metric)) return Weighed(rule, tokens);
  return rule.metric == LimitMetric::kMoney ? money_nano : 1;
}

bool IsForeign(const LimitRule& rule, absl::string_view currency) {
  return rule.metric == LimitMetric::kMoney && rule.currency != currency;
}

// A rule that comes to count something else starts anew.
std::string CounterOf(const LimitRule& rule) {
  return absl::StrCat(rule.id, "/", static_cast<int>(rule.metric), "/",
                      static_cast<int>(rule.window), "/", rule.currency);
}

absl::Status CheckPrompt(const LimitRule& rule, int64_t prompt, int64_t amount) {
  if (prompt <= amount || rule.shadow || amount == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the prompt counts for ", (prompt + kThousandths - 1) / kThousandths,
                   " tokens, and limit ", rule.id, " never has more than ", rule.amount));
}

}  // namespace

absl::StatusOr<std::vector<LimitCharge>> ChargesOf(absl::Span<const LimitRule> rules,
                                                   const CallEstimate& estimate) {
  std::vector<LimitCharge> charges;
  for (const LimitRule& rule : rules) {
    const bool foreign = IsForeign(rule, estimate.currency);
    if (foreign && !rule.shadow) {
      return absl::FailedPreconditionError(
          absl::StrCat("limit ", rule.id, " is in ", rule.currency, ", and the model's price in ",
                       estimate.currency.empty() ? "no currency" : estimate.currency));
    }
    const int64_t amount = Saturate(static_cast<__int128>(rule.amount) * UnitsOf(rule.metric));
    const TokenUsage all = AtMost(rule, estimate.prompt_tokens, estimate.output_tokens);
    int64_t cost = foreign ? 0 : CostOf(rule, all, estimate.money_nano), least = cost;
    if (CountsTokens(rule.metric)) {
      const TokenUsage prompt = AtMost(rule, estimate.prompt_tokens, 0);
      RETURN_IF_ERROR(CheckPrompt(rule, Weighed(rule, prompt), amount));
      const TokenUsage first = AtMost(rule, estimate.prompt_tokens, 1);
      cost = std::min(cost, amount);
      least = std::min(cost, Weighed(rule, first));
    }
    charges.push_back({CounterOf(rule), rule.window, amount, cost, least, rule.shadow});
  }
  return charges;
}

std::vector<int64_t> UsedOf(absl::Span<const LimitRule> rules, const CallUse& use) {
  std::vector<int64_t> used;
  for (const LimitRule& rule : rules) {
    used.push_back(IsForeign(rule, use.currency) ? 0 : CostOf(rule, use.tokens, use.money_nano));
  }
  return used;
}

int64_t RemainingOf(const LimitRule& rule, const LimitState& state) {
  return state.remaining / UnitsOf(rule.metric);
}

}  // namespace tandem
