#include "router/limits/charge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "router/store/memory_limits.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

LimitRule Rule(LimitMetric metric, LimitWindow window, int64_t amount) {
  return {.id = absl::StrCat("rule", static_cast<int>(metric)),
          .metric = metric,
          .window = window,
          .amount = amount};
}

int64_t CostOf(const LimitRule& rule, const CallEstimate& estimate) {
  const absl::StatusOr<std::vector<LimitCharge>> charges = ChargesOf({rule}, estimate);
  EXPECT_THAT(charges, IsOk());
  return charges.ok() ? charges->at(0).cost : -1;
}

TEST(Charge, EachMetricCountsItsOwnThing) {
  const CallEstimate estimate = {100, 20, 7, "USD"};
  const CallUse use = {{.prompt = 100, .cached = 60, .output = 5, .reasoning = 2}, 3, "USD"};
  const std::tuple<LimitMetric, int64_t, int64_t> table[] = {
      {LimitMetric::kRequests, 1, 1},
      {LimitMetric::kInputTokens, 100'000, 100'000},
      {LimitMetric::kOutputTokens, 20'000, 5'000},
      {LimitMetric::kTotalTokens, 120'000, 105'000},
      {LimitMetric::kConcurrentCalls, 1, 1},
      {LimitMetric::kMoney, 7, 3},
  };
  for (const auto& [metric, asked, used] : table) {
    LimitRule rule = Rule(metric, LimitWindow::kMonth, 1'000'000);
    if (metric == LimitMetric::kMoney) rule.currency = "USD";
    EXPECT_EQ(CostOf(rule, estimate), asked) << rule.id;
    EXPECT_THAT(UsedOf({rule}, use), ElementsAre(used)) << rule.id;
  }
}

TEST(Charge, CachedTokensMayCountForLessOrMoreAndAreNotCountedOnBefore) {
  LimitRule rule = Rule(LimitMetric::kTotalTokens, LimitWindow::kMinute, 1'000'000);
  rule.weights = {.prompt = 1000, .cached = 100, .output = 4000};
  EXPECT_EQ(CostOf(rule, {100, 20}), 180'000);
  EXPECT_THAT(UsedOf({rule}, {{.prompt = 100, .cached = 60, .output = 5}}), ElementsAre(66'000));
  rule.weights.cached = 1500;
  EXPECT_EQ(CostOf(rule, {100, 20}), 230'000) << "whatever a cache holds of it";
}

TEST(Charge, ACounterIsNeverAskedForMoreThanItHolds) {
  const LimitRule rule = Rule(LimitMetric::kTotalTokens, LimitWindow::kMinute, 1000);
  EXPECT_EQ(CostOf(rule, {400, 5000}), 1'000'000) << "the answer may ask for the rest later";
  EXPECT_EQ(CostOf(rule, {1000, 5000}), 1'000'000);
  EXPECT_THAT(
      ChargesOf({rule}, {1001, 1}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("counts for 1001 tokens, and limit rule4 never has more than 1000")));
  LimitRule shadow = rule;
  shadow.shadow = true;
  EXPECT_EQ(CostOf(shadow, {1001, 1}), 1'000'000);
  EXPECT_EQ(CostOf(Rule(LimitMetric::kOutputTokens, LimitWindow::kMinute, 10), {5000, 8}), 8000);
  EXPECT_EQ(CostOf(Rule(LimitMetric::kTotalTokens, LimitWindow::kDay, 1000), {400, 5000}),
            1'000'000);
}

TEST(Charge, ItIsContentWithThePromptAndOneToken) {
  LimitRule rule = Rule(LimitMetric::kTotalTokens, LimitWindow::kMinute, 1000);
  rule.weights.output = 2000;
  ASSERT_OK_AND_ASSIGN(const auto charges, ChargesOf({rule}, {400, 100}));
  EXPECT_EQ(charges[0].cost, 600'000);
  EXPECT_EQ(charges[0].least, 402'000);
  const LimitRule requests = Rule(LimitMetric::kRequests, LimitWindow::kMinute, 1000);
  EXPECT_EQ(ChargesOf({requests}, {400, 100})->at(0).least, 1);
}

TEST(Charge, ARuleThatCountsSomethingElseHasAnotherCounter) {
  LimitRule rule = Rule(LimitMetric::kTotalTokens, LimitWindow::kMinute, 1000);
  const std::string before = ChargesOf({rule}, {1, 1})->at(0).counter;
  rule.amount = 7;
  EXPECT_EQ(ChargesOf({rule}, {1, 1})->at(0).counter, before);
  rule.window = LimitWindow::kMonth;
  EXPECT_NE(ChargesOf({rule}, {1, 1})->at(0).counter, before);
}

TEST(Charge, MoneyIsNeverMixed) {
  LimitRule rule = Rule(LimitMetric::kMoney, LimitWindow::kMonth, 1000);
  rule.currency = "EUR";
  EXPECT_THAT(ChargesOf({rule}, {1, 1, 1, "USD"}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("limit rule6 is in EUR, and the model's price in USD")));
  LimitRule shadow = rule;
  shadow.shadow = true;
  EXPECT_EQ(CostOf(shadow, {1, 1, 5, "USD"}), 0);
  EXPECT_THAT(UsedOf({shadow}, {{}, 5, "USD"}), ElementsAre(0));
  EXPECT_THAT(UsedOf({shadow}, {{}, 5, "EUR"}), ElementsAre(5));
  EXPECT_THAT(ChargesOf({rule}, {1, 1, 0, ""}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("in no currency")));
}

TEST(Charge, NoNumberIsTooLarge) {
  LimitRule rule = Rule(LimitMetric::kTotalTokens, LimitWindow::kMonth, INT64_MAX);
  rule.weights.output = 1'000'000;
  ASSERT_OK_AND_ASSIGN(const auto charges, ChargesOf({rule}, {INT64_MAX, INT64_MAX}));
  EXPECT_EQ(charges[0].amount, INT64_MAX);
  EXPECT_EQ(charges[0].cost, INT64_MAX);
}

// What is charged in the end is what was used, whatever was estimated.
TEST(Charge, WhatRemainsIsTheAmountLessWhatWasUsed) {
  std::mt19937 random(5);
  const auto any = [&random](int64_t below) { return static_cast<int64_t>(random()) % below; };
  FakeClock clock;
  MemoryLimits store(&clock, {.wall = &clock});
  const LimitRule rule = Rule(LimitMetric::kTotalTokens, LimitWindow::kMonth, 1'000'000);
  int64_t left = rule.amount;
  for (int i = 0; i < 200; ++i) {
    const std::string id = absl::StrCat(i);
    const CallEstimate estimate = {any(1000), any(1000)};
    ASSERT_OK_AND_ASSIGN(const auto charges, ChargesOf({rule}, estimate));
    store.Reserve(id, charges, [&](const absl::StatusOr<LimitVerdict>& verdict) {
      ASSERT_THAT(verdict, IsOk());
      EXPECT_EQ(RemainingOf(rule, verdict->states[0]),
                left - estimate.prompt_tokens - estimate.output_tokens);
    });
    const CallUse use = {{.prompt = estimate.prompt_tokens, .output = any(1500)}};
    store.Settle(id, UsedOf({rule}, use), [](const absl::Status&) {});
    left -= use.tokens.prompt + use.tokens.output;
  }
}

}  // namespace
}  // namespace tandem
