#include "worker/sampler/logprobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

namespace tandem {
namespace {

TEST(Logprobs, AreTheLogSoftmaxAndRanksCountFromOne) {
  const std::vector<float> logits = {1.0f, 3.0f, 2.0f, 3.0f};
  const double z = std::exp(1) + 2 * std::exp(3) + std::exp(2);
  const PositionLogprobs got = MakeLogprobs(logits, 2, 3);
  EXPECT_EQ(got.token.token_id, 2);
  EXPECT_EQ(got.token.rank, 3u);
  EXPECT_FLOAT_EQ(got.token.logprob, static_cast<float>(2 - std::log(z)));
  ASSERT_EQ(got.top.size(), 3u);
  EXPECT_EQ(got.top[0].token_id, 1) << "of equals the lower id comes first";
  EXPECT_EQ(got.top[1].token_id, 3);
  EXPECT_EQ(got.top[2], got.token);
  EXPECT_EQ(MakeLogprobs(logits, 3, 0).token.rank, 2u);
  EXPECT_TRUE(MakeLogprobs(logits, 3, 0).top.empty());
}

TEST(Logprobs, TheTopAreThoseOfAFullSort) {
  std::mt19937_64 rng(::testing::UnitTest::GetInstance()->random_seed());
  std::normal_distribution<float> normal(0, 4);
  for (int round = 0; round < 500; ++round) {
    std::vector<float> logits(1 + rng() % 300);
    for (float& logit : logits) logit = (rng() % 2 == 0) ? std::round(normal(rng)) : normal(rng);
    std::vector<int32_t> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    const size_t n = std::min<size_t>(rng() % 21, ids.size());
    const size_t at = rng() % ids.size();
    const PositionLogprobs got = MakeLogprobs(logits, ids[at], n);
    EXPECT_EQ(got.token.rank, at + 1);
    ASSERT_EQ(got.top.size(), n);
    double mass = 0;
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(got.top[i].token_id, ids[i]);
      EXPECT_EQ(got.top[i].rank, i + 1);
      mass += std::exp(got.top[i].logprob);
    }
    EXPECT_LE(mass, 1 + 1e-5);
  }
}

}  // namespace
}  // namespace tandem
