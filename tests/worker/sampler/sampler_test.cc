#include "worker/sampler/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tests/support/status_matchers.h"
#include "worker/sampler/exact_math.h"
#include "worker/sampler/philox.h"
#include "worker/sampler/row_passes.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> RandomLogits(std::mt19937_64& rng, size_t n, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(rng);
  return logits;
}

// The definition, in the plainest code: sort everything, cut, draw.
int32_t SampleByDefinition(const std::vector<float>& logits, const SamplingSpec& spec,
                           uint32_t output_index, uint32_t position) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  if (spec.temperature == 0) return ids[0];
  const bool top_k = spec.top_k > 0 && spec.top_k < ids.size();
  std::vector<double> weights;
  for (const int32_t id : ids) {
    weights.push_back(ExactExp((double{logits[id]} - double{logits[ids[0]]}) / spec.temperature));
  }
  double total = SumOfExp(logits, logits[ids[0]], spec.temperature);
  if (top_k) {
    weights.resize(spec.top_k);
    total = std::accumulate(weights.begin(), weights.end(), 0.0);
  }
  if (spec.top_p < 1 || spec.min_p > 0) {
    double sum = 0;
    size_t kept = 0;
    while (kept < weights.size() && weights[kept] >= spec.min_p &&
           (spec.top_p >= 1 || sum < spec.top_p * total)) {
      sum += weights[kept++];
    }
    weights.resize(kept);
    total = sum;
  }
  const double target = UniformAt(spec.seed, output_index, position) * total;
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i];
    if (sum > target) return ids[i];
  }
  return -1;
}

TEST(Sampler, PartialSortingChangesNoResult) {
  std::mt19937_64 rng(::testing::UnitTest::GetInstance()->random_seed());
  Sampler sampler;
  for (int round = 0; round < 3000; ++round) {
    const size_t sizes[] = {1, 2, 17, 63, 64, 65, 1000, 3000};
    std::vector<float> logits = RandomLogits(rng, sizes[rng() % 8], 0.1f + rng() % 5);
    if (rng() % 2 == 0) {  // equal logits must be ordered by id
      for (float& logit : logits) logit = std::round(logit);
    }
    SamplingSpec spec;
    spec.temperature = (rng() % 4 == 0) ? 0.0f : 0.05f + (rng() % 100) / 25.0f;
    spec.top_p = (rng() % 2 == 0) ? 1.0f : 0.01f + (rng() % 99) / 100.0f;
    spec.top_k = (rng() % 2 == 0) ? 0 : 1 + rng() % 100;
    spec.min_p = (rng() % 2 == 0) ? 0.0f : (rng() % 101) / 100.0f;
    spec.seed = rng();
    const uint32_t position = rng() % 1000;
    SCOPED_TRACE(testing::Message()
                 << "size " << logits.size() << " T " << spec.temperature << " top_p " << spec.top_p
                 << " top_k " << spec.top_k << " min_p " << spec.min_p << " seed " << spec.seed);
    EXPECT_THAT(sampler.Sample(logits, spec, 0, position),
                IsOkAndHolds(SampleByDefinition(logits, spec, 0, position)));
  }
}

// Rows so long that most of their blocks are not looked at, and lists that end within the first
// candidates, behind them, and nowhere.
TEST(Sampler, WhatIsLeftOutOfALongRowChangesNoResult) {
  std::mt19937_64 rng(::testing::UnitTest::GetInstance()->random_seed());
  Sampler sampler;
  for (int round = 0; round < 60; ++round) {
    const size_t sizes[] = {4096, 4097, 20000, 70000};
    std::vector<float> logits = RandomLogits(rng, sizes[rng() % 4], 0.01f + rng() % 4);
    if (round % 4 == 0) {
      for (float& logit : logits) logit = std::round(logit);
    }
    if (round % 4 == 1) std::fill(logits.begin() + 300, logits.end(), -kInfinity);
    SamplingSpec spec;
    spec.temperature = 0.05f + (rng() % 100) / 25.0f;
    spec.top_p = (rng() % 2 == 0) ? 1.0f : 0.01f + (rng() % 99) / 100.0f;
    const uint32_t cuts[] = {0, 1, 63, 64, 65, 1023, 1025, 5000};
    spec.top_k = cuts[rng() % 8];
    spec.seed = rng();
    SCOPED_TRACE(testing::Message()
                 << "size " << logits.size() << " T " << spec.temperature << " top_p " << spec.top_p
                 << " top_k " << spec.top_k << " seed " << spec.seed);
    EXPECT_THAT(sampler.Sample(logits, spec, 0, 0),
                IsOkAndHolds(SampleByDefinition(logits, spec, 0, 0)));
  }
}

// As if the model had the allowed ids alone.
TEST(Sampler, AMaskLeavesTheAllowedOnesInTheirOrder) {
  std::mt19937_64 rng(::testing::UnitTest::GetInstance()->random_seed());
  Sampler sampler;
  for (int round = 0; round < 1000; ++round) {
    const size_t sizes[] = {1, 31, 32, 33, 1000};
    const std::vector<float> logits = RandomLogits(rng, sizes[rng() % 5], 2);
    std::vector<uint32_t> mask((logits.size() + 31) / 32);
    std::vector<float> left;
    std::vector<int32_t> ids;
    for (size_t id = 0; id < logits.size(); ++id) {
      if (rng() % 3 > 0 && id + 1 < logits.size()) continue;
      mask[id / 32] |= uint32_t{1} << (id % 32);
      left.push_back(logits[id]);
      ids.push_back(static_cast<int32_t>(id));
    }
    SamplingSpec spec;
    spec.temperature = (rng() % 4 == 0) ? 0.0f : 0.05f + (rng() % 100) / 25.0f;
    spec.top_p = (rng() % 2 == 0) ? 1.0f : 0.01f + (rng() % 99) / 100.0f;
    spec.top_k = (rng() % 2 == 0) ? 0 : 1 + rng() % 100;
    spec.seed = rng();
    EXPECT_THAT(sampler.Sample(logits, spec, 0, 5, mask),
                IsOkAndHolds(ids[SampleByDefinition(left, spec, 0, 5)]));
    const std::vector<uint32_t> all(mask.size(), ~uint32_t{0});
    EXPECT_EQ(*sampler.Sample(logits, spec, 0, 5, all), *sampler.Sample(logits, spec, 0, 5));
  }
}

TEST(Sampler, AMaskHidesNoBrokenModelAndNeverAllowsNothing) {
  Sampler sampler;
  const uint32_t first = 1, none = 0;
  EXPECT_THAT(sampler.Sample({1, NAN}, {}, 0, 0, {&first, 1}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not finite")));
  EXPECT_THAT(sampler.Sample({-kInfinity, 1}, {}, 0, 0, {&first, 1}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not finite")));
  EXPECT_THAT(sampler.Sample({1, 2}, {}, 0, 0, {&none, 1}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("no token is allowed")));
}

TEST(Sampler, TemperatureZeroTakesTheLowestIdOfTheLargest) {
  Sampler sampler;
  EXPECT_THAT(sampler.Sample({1, 5, 3, 5, 5}, {.temperature = 0}, 0, 0), IsOkAndHolds(1));
  EXPECT_THAT(sampler.Sample({-kInfinity, -7}, {.temperature = 0}, 0, 0), IsOkAndHolds(1));
}

TEST(Sampler, TruncationKeepsWhatItsDefinitionSays) {
  // Probabilities 0.5, 0.25, 0.125, 0.125 at ids 2, 0, 1, 3.
  const std::vector<float> logits = {std::log(2.0f), 0.0f, std::log(4.0f), 0.0f};
  const auto drawn = [&](SamplingSpec spec) {
    Sampler sampler;
    std::vector<int> counts(4);
    for (spec.seed = 0; spec.seed < 500; ++spec.seed) {
      ++counts[*sampler.Sample(logits, spec, 0, 0)];
    }
    std::vector<int32_t> ids;
    for (int id = 0; id < 4; ++id) {
      if (counts[id] > 0) ids.push_back(id);
    }
    return ids;
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(drawn({}), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(drawn({.top_k = 2}), (Ids{0, 2}));
  EXPECT_EQ(drawn({.top_k = 3}), (Ids{0, 1, 2})) << "of two equal ones the lower id is kept";
  EXPECT_EQ(drawn({.top_p = 0.4f}), (Ids{2}));
  EXPECT_EQ(drawn({.top_p = 0.6f}), (Ids{0, 2}));
  EXPECT_EQ(drawn({.min_p = 0.45f}), (Ids{0, 2}));
  EXPECT_EQ(drawn({.min_p = 1.0f}), (Ids{2}));
  EXPECT_EQ(drawn({.top_p = 0.7f, .top_k = 1}), (Ids{2}));
  // top_p counts shares of what top_k left: 0.5 / 0.75 = 0.667.
  EXPECT_EQ(drawn({.top_p = 0.66f, .top_k = 2}), (Ids{2}));
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const size_t kTokens = 20;
  std::mt19937_64 rng(7);
  const std::vector<float> logits = RandomLogits(rng, kTokens, 1.0f);
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    std::vector<double> expected(kTokens);
    double sum = 0;
    for (size_t i = 0; i < kTokens; ++i) sum += expected[i] = std::exp(logits[i] / temperature);
    Sampler sampler;
    std::vector<int> counts(kTokens);
    constexpr int kDraws = 200000;
    for (uint32_t position = 0; position < kDraws; ++position) {
      ++counts[*sampler.Sample(logits, {.temperature = temperature, .seed = 42}, 0, position)];
    }
    double chi_square = 0;
    for (size_t i = 0; i < kTokens; ++i) {
      const double want = expected[i] / sum * kDraws;
      chi_square += (counts[i] - want) * (counts[i] - want) / want;
    }
    EXPECT_LT(chi_square, 43.8) << "99.9 % point of 19 degrees of freedom, T = " << temperature;
    EXPECT_GT(chi_square, 4.0) << "too even to be random, T = " << temperature;
  }
}

TEST(Sampler, BrokenLogitsAreAnErrorAndNotAToken) {
  Sampler sampler;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float temperature : {0.0f, 1.0f}) {
    const SamplingSpec spec = {.temperature = temperature};
    for (const std::vector<float>& logits :
         {std::vector<float>{0, nan, 1}, {nan, 0}, {1, kInfinity}, {-kInfinity, -kInfinity}}) {
      EXPECT_THAT(sampler.Sample(logits, spec, 0, 0),
                  StatusIs(absl::StatusCode::kInternal, HasSubstr("not finite")));
    }
  }
}

TEST(ExactMath, IsWithinTwoUlpOfTheTrueValue) {
  std::mt19937_64 rng(3);
  std::uniform_real_distribution<double> exponent(-700, 0), log_of(-300, 300);
  for (int i = 0; i < 100000; ++i) {
    const double x = exponent(rng);
    const double e = static_cast<double>(std::exp(static_cast<long double>(x)));
    ASSERT_NEAR(ExactExp(x), e, 2 * (std::nextafter(e, 2 * e) - e)) << x;
    const double y = std::exp(log_of(rng) / (1 + rng() % 100));
    const double l = static_cast<double>(std::log(static_cast<long double>(y)));
    ASSERT_NEAR(ExactLog(y), l, 2 * (std::nextafter(std::abs(l), 1e9) - std::abs(l)) + 1e-17) << y;
  }
  EXPECT_EQ(ExactExp(0), 1.0);
  EXPECT_EQ(ExactExp(-kInfinity), 0.0);
  EXPECT_EQ(ExactLog(1), 0.0);
}

}  // namespace
}  // namespace tandem
