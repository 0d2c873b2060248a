#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "client/bench/arrivals.h"
#include "client/bench/pacer.h"
#include "client/bench/prompt.h"
#include "tests/support/status_matchers.h"

namespace tandem::bench {
namespace {

using ::testing::HasSubstr;

std::vector<double> Gaps(const Plan& plan) {
  std::vector<double> gaps;
  for (size_t i = 1; i < plan.size(); ++i) {
    gaps.push_back(absl::ToDoubleSeconds(plan[i].at - plan[i - 1].at));
  }
  return gaps;
}

// The largest distance between what was drawn and the exponential distribution of this rate.
double KolmogorovSmirnov(std::vector<double> gaps, double rate) {
  std::sort(gaps.begin(), gaps.end());
  const double count = static_cast<double>(gaps.size());
  double most = 0;
  for (size_t i = 0; i < gaps.size(); ++i) {
    const double cdf = -std::expm1(-rate * gaps[i]);
    most = std::max({most, std::abs(cdf - i / count), std::abs((i + 1) / count - cdf)});
  }
  return most;
}

TEST(DrawPlan, PoissonArrivalsHaveExponentialGaps) {
  for (const uint64_t seed : {1, 2, 3}) {
    ASSERT_OK_AND_ASSIGN(const Plan plan, DrawPlan({.rate = 5, .requests = 10'001, .seed = seed}));
    // 1 % of the seeds of a true Poisson process would fail.
    EXPECT_LT(KolmogorovSmirnov(Gaps(plan), 5), 1.63 / std::sqrt(10'000)) << "seed " << seed;
    EXPECT_GT(KolmogorovSmirnov(Gaps(plan), 6), 1.63 / std::sqrt(10'000)) << "another rate passes";
  }
}

TEST(DrawPlan, OneGapSaysNothingOfTheNext) {
  ASSERT_OK_AND_ASSIGN(const Plan plan, DrawPlan({.rate = 1, .requests = 10'001, .seed = 1}));
  const std::vector<double> gaps = Gaps(plan);
  double covariance = 0;
  for (size_t i = 1; i < gaps.size(); ++i) covariance += (gaps[i] - 1) * (gaps[i - 1] - 1);
  EXPECT_LT(std::abs(covariance / gaps.size()), 3 / std::sqrt(gaps.size()));
}

TEST(DrawPlan, ASeedGivesOnePlan) {
  const auto times = [](uint64_t seed) {
    return Gaps(*DrawPlan({.rate = 5, .requests = 50, .seed = seed}));
  };
  EXPECT_EQ(times(1), times(1));
  EXPECT_NE(times(1), times(2));
}

TEST(DrawPlan, EndsWithTheRequestsOrTheTime) {
  EXPECT_EQ(DrawPlan({.rate = 2, .even = true, .requests = 3})->size(), 3);
  ASSERT_OK_AND_ASSIGN(const Plan timed,
                       DrawPlan({.rate = 2, .even = true, .limit = absl::Seconds(3)}));
  EXPECT_EQ(timed.size(), 6);
  EXPECT_EQ(timed.back().at, absl::Seconds(2.5));
  ASSERT_OK_AND_ASSIGN(const Plan at_once,
                       DrawPlan({.rate = std::numeric_limits<double>::infinity(), .requests = 9}));
  EXPECT_EQ(at_once.back().at, absl::ZeroDuration());
}

TEST(DrawPlan, APlanHasLimits) {
  EXPECT_THAT(DrawPlan({.rate = 1e9, .limit = absl::Hours(1)}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 1000000")));
  EXPECT_THAT(DrawPlan({.rate = 1, .requests = 100, .output = {.a = kTokensMax}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("400000000 tokens")));
  EXPECT_THAT(DrawPlan({.rate = 1, .requests = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no request")));
}

TEST(Lengths, EachFormDrawsWhatItSays) {
  Random random(1, Stream::kInput);
  const auto draws = [&random](const char* text) {
    const Lengths lengths = *ParseLengths(text);
    std::vector<double> values(20'000);
    for (double& value : values) value = lengths.Draw(&random);
    return values;
  };
  const auto mean = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / values.size();
  };
  EXPECT_EQ(draws("512"), std::vector<double>(20'000, 512));
  const std::vector<double> uniform = draws("10-19");
  EXPECT_EQ(std::set<double>(uniform.begin(), uniform.end()).size(), 10);
  EXPECT_EQ(*std::min_element(uniform.begin(), uniform.end()), 10);
  EXPECT_NEAR(mean(uniform), 14.5, 0.1);
  const std::vector<double> normal = draws("normal:500:50");
  EXPECT_NEAR(mean(normal), 500, 2);
  const auto within =
      std::count_if(normal.begin(), normal.end(), [](double v) { return v > 450 && v < 550; });
  EXPECT_NEAR(within / 20'000.0, 0.68, 0.02);
  const std::vector<double> cut = draws("normal:1:50");
  EXPECT_EQ(*std::min_element(cut.begin(), cut.end()), 1);
}

TEST(Lengths, AMistakeIsNamed) {
  for (const char* text : {"", "0", "-5", "1-2-3", "many", "4000001", "normal:5", "normal:0:1"}) {
    EXPECT_THAT(ParseLengths(text).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("give N, MIN-MAX or normal:MEAN:DEVIATION")))
        << text;
  }
  EXPECT_THAT(ParseLengths("9-8"), StatusIs(absl::StatusCode::kInvalidArgument));
}

size_t SharedPrefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

TEST(Prompt, RequestsShareTheBlocksThatTheyName) {
  const PlannedRequest first = {.input_tokens = 1500, .blocks = {3, 8, 9}};
  const PlannedRequest second = {.input_tokens = 1100, .blocks = {3, 8, 10}};
  const PlannedRequest unnamed = {.input_tokens = 1500, .blocks = {3}};
  const auto prompt = [](const PlannedRequest& request, uint64_t index) {
    return MakePrompt(request, index, 7, 50'000);
  };
  EXPECT_EQ(prompt(first, 0).size(), 1500);
  EXPECT_EQ(prompt(first, 0), prompt(first, 1)) << "blocks cover all of it";
  EXPECT_EQ(SharedPrefix(prompt(first, 0), prompt(second, 1)), 1024);
  EXPECT_EQ(SharedPrefix(prompt(unnamed, 0), prompt(unnamed, 1)), 512);
  EXPECT_EQ(prompt(unnamed, 5), prompt(unnamed, 5));
  // A block has the same tokens wherever it stands.
  const std::vector<int32_t> moved = prompt({.input_tokens = 1024, .blocks = {1, 3}}, 0);
  EXPECT_TRUE(std::equal(moved.begin() + 512, moved.end(), prompt(first, 0).begin()));
}

TEST(Prompt, ASharedBeginningIsSharedAndTheRestIsNot) {
  const PlannedRequest request = {.input_tokens = 100, .shared_tokens = 40};
  const auto one = MakePrompt(request, 0, 7, 50'000);
  EXPECT_EQ(SharedPrefix(one, MakePrompt(request, 1, 7, 50'000)), 40);
  EXPECT_EQ(SharedPrefix(one, MakePrompt(request, 0, 8, 50'000)), 0);
}

TEST(Prompt, TokensAreOfTheWholeVocabularyAndOfNothingElse) {
  const auto prompt = MakePrompt({.input_tokens = 10'000}, 0, 1, 300);
  const std::set<int32_t> seen(prompt.begin(), prompt.end());
  EXPECT_EQ(seen.size(), 300);
  EXPECT_EQ(*seen.begin(), 0);
  EXPECT_EQ(*seen.rbegin(), 299);
}

TEST(Prompt, WhatIsTooLongForTheModelIsCounted) {
  const Plan plan = {{.input_tokens = 90, .output_tokens = 10},
                     {.input_tokens = 91, .output_tokens = 10},
                     {.input_tokens = 1, .output_tokens = 200}};
  EXPECT_THAT(CheckFits(plan, 201), IsOk());
  EXPECT_THAT(CheckFits(plan, 100),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("2 of 3 requests are too long for the model's context of 100 "
                                 "tokens; the longest has 1 of input and 200 of output")));
}

TEST(Pacer, AnOpenLoopDoesNotWaitForAnyEnd) {
  const Plan plan = {{.at = absl::Seconds(1)}, {.at = absl::Seconds(1)}, {.at = absl::Seconds(4)}};
  Pacer pacer(&plan, absl::nullopt);
  for (const int seconds : {1, 1, 4}) {
    EXPECT_EQ(pacer.due(), absl::Seconds(seconds));
    pacer.Sent();
  }
  pacer.Ended(absl::Seconds(9));
  EXPECT_TRUE(pacer.all_sent());
  EXPECT_EQ(pacer.due(), absl::nullopt);
}

TEST(Pacer, AClosedLoopSendsWhenOneHasEnded) {
  const Plan plan(5);
  Pacer pacer(&plan, 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(pacer.due(), absl::ZeroDuration());
    pacer.Sent();
  }
  EXPECT_EQ(pacer.due(), absl::nullopt);
  pacer.Ended(absl::Seconds(3));
  pacer.Ended(absl::Seconds(4));
  EXPECT_EQ(pacer.due(), absl::Seconds(3)) << "due since its turn came, however late it is sent";
  pacer.Sent();
  EXPECT_EQ(pacer.due(), absl::Seconds(4));
  EXPECT_EQ(pacer.next(), 3);
}

}  // namespace
}  // namespace tandem::bench
