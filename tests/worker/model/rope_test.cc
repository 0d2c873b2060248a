#include "worker/model/rope.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(RopeFrequencies, AreThePowersOfTheta) {
  const std::vector<float> frequencies = RopeFrequencies({.theta = 10000.0}, 8);
  ASSERT_EQ(frequencies.size(), 4);
  EXPECT_FLOAT_EQ(frequencies[0], 1.0f);
  EXPECT_FLOAT_EQ(frequencies[1], 0.1f);
  EXPECT_FLOAT_EQ(frequencies[2], 0.01f);
  EXPECT_FLOAT_EQ(frequencies[3], 0.001f);
}

TEST(RopeFrequencies, LinearDividesEachByTheFactor) {
  const RopeSpec rope = {.theta = 10000.0, .scaling = RopeScaling::kLinear, .factor = 4.0};
  EXPECT_FLOAT_EQ(RopeFrequencies(rope, 8)[1], 0.025f);
}

TEST(RopeFrequencies, DivisorsApplyOneByOne) {
  const RopeSpec rope = {
      .theta = 10000.0, .scaling = RopeScaling::kDivisors, .divisors = {1, 2, 5, 10}};
  const std::vector<float> frequencies = RopeFrequencies(rope, 8);
  EXPECT_FLOAT_EQ(frequencies[1], 0.05f);
  EXPECT_FLOAT_EQ(frequencies[3], 0.0001f);
}

// The constants of Llama 3.1 (factor 8, heads of 128) and 3.2 1B (factor 32, heads of 64).
TEST(RopeFrequencies, Llama3MatchesTheCheckVectors) {
  RopeSpec rope = {.theta = 500000.0,
                   .scaling = RopeScaling::kLlama3,
                   .factor = 8.0,
                   .low_freq_factor = 1.0,
                   .high_freq_factor = 4.0,
                   .original_context = 8192};
  const std::vector<float> plain = RopeFrequencies({.theta = 500000.0}, 128);
  const std::vector<float> heads_of_128 = RopeFrequencies(rope, 128);
  EXPECT_EQ(heads_of_128[28], plain[28]);
  EXPECT_FLOAT_EQ(heads_of_128[29], 2.16657076e-3f);
  EXPECT_FLOAT_EQ(heads_of_128[32], 5.24846161e-4f);
  EXPECT_FLOAT_EQ(heads_of_128[35], 9.55621235e-5f);
  EXPECT_FLOAT_EQ(heads_of_128[63], plain[63] / 8);
  rope.factor = 32.0;
  const std::vector<float> heads_of_64 = RopeFrequencies(rope, 64);
  EXPECT_FLOAT_EQ(heads_of_64[15], 1.29054793e-3f);
  EXPECT_FLOAT_EQ(heads_of_64[18], 1.94616382e-5f);
}

// The constants of Qwen3 (factor 4, heads of 128), DeepSeek-V3 (factor 40, 64) and gpt-oss (factor
// 32, 64, ramp not truncated).
TEST(RopeFrequencies, YarnMatchesTheCheckVectors) {
  const std::vector<float> qwen3 = RopeFrequencies(
      {.theta = 1e6, .scaling = RopeScaling::kYarn, .factor = 4, .original_context = 32768}, 128);
  EXPECT_EQ(qwen3[23], RopeFrequencies({.theta = 1e6}, 128)[23]);
  EXPECT_FLOAT_EQ(qwen3[30], 1.06436098e-3f);
  EXPECT_FLOAT_EQ(qwen3[40], 4.44569853e-5f);
  const std::vector<float> deepseek =
      RopeFrequencies({.scaling = RopeScaling::kYarn, .factor = 40, .original_context = 4096}, 64);
  EXPECT_FLOAT_EQ(deepseek[10], 0.0562341325f);
  EXPECT_FLOAT_EQ(deepseek[16], 0.0055f);
  EXPECT_FLOAT_EQ(deepseek[31], 3.33380358e-6f);
  const std::vector<float> gpt_oss = RopeFrequencies({.theta = 1.5e5,
                                                      .scaling = RopeScaling::kYarn,
                                                      .factor = 32,
                                                      .original_context = 4096,
                                                      .truncate = false},
                                                     64);
  EXPECT_FLOAT_EQ(gpt_oss[9], 0.0317056962f);
  EXPECT_FLOAT_EQ(gpt_oss[12], 6.79495949e-3f);
  EXPECT_FLOAT_EQ(gpt_oss[17], 1.29318701e-4f);
}

}  // namespace
}  // namespace tandem
