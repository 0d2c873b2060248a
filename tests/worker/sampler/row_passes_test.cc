#include "worker/sampler/row_passes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "worker/sampler/exact_math.h"

namespace tandem {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kSizes[] = {1, 2, 7, 15, 16, 17, 31, 63, 64, 65, 127, 1000, 4099};

std::vector<float> RowOf(size_t size) {
  std::mt19937_64 rng(size);
  std::normal_distribution<float> normal(0, 40);  // some are too unlikely to have a weight
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(rng);
  return logits;
}

// The definition: element i goes to lane i % 16, then a tree.
double SumByDefinition(const std::vector<float>& logits, double max, double temperature) {
  std::vector<double> lanes(16);
  for (size_t i = 0; i < logits.size(); ++i) {
    lanes[i % 16] += ExactExp((double{logits[i]} - max) / temperature);
  }
  for (; lanes.size() > 1; lanes.resize(lanes.size() / 2)) {
    const size_t half = lanes.size() / 2;
    for (size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

TEST(RowPasses, EveryInstructionSetGivesTheBitsOfTheDefinition) {
  for (const RowPasses& passes : RowPassesHere()) {
    for (const size_t size : kSizes) {
      SCOPED_TRACE(testing::Message() << passes.name << ", " << size << " logits");
      const std::vector<float> logits = RowOf(size);
      const float max = *std::max_element(logits.begin(), logits.end());
      for (const double temperature : {1.0, 0.05, 1.7}) {
        EXPECT_EQ(std::bit_cast<uint64_t>(passes.sum_of_exp(logits, max, temperature)),
                  std::bit_cast<uint64_t>(SumByDefinition(logits, max, temperature)));
      }
      const RowMax row = passes.max(logits);
      EXPECT_EQ(row.max, max);
      EXPECT_TRUE(row.finite);
      std::vector<float> maxima(BlocksOfRow(size)), wanted;
      passes.block_maxima(logits, absl::MakeSpan(maxima));
      for (size_t i = 0; i < size; i += kMaxBlock) {
        const auto begin = logits.begin() + i;
        wanted.push_back(*std::max_element(begin, begin + std::min(kMaxBlock, size - i)));
      }
      EXPECT_EQ(maxima, wanted);
    }
  }
}

TEST(RowPasses, WhatIsNoFiniteNumberIsSeenAnywhere) {
  for (const RowPasses& passes : RowPassesHere()) {
    for (const size_t size : kSizes) {
      for (const size_t at : {size_t{0}, size / 2, size - 1}) {
        SCOPED_TRACE(testing::Message() << passes.name << ", " << at << " of " << size);
        for (const float broken : {NAN, -NAN, kInfinity}) {
          std::vector<float> logits = RowOf(size);
          logits[at] = broken;
          EXPECT_FALSE(passes.max(logits).finite);
        }
        std::vector<float> logits = RowOf(size);
        logits[at] = -kInfinity;  // an impossible token
        EXPECT_TRUE(passes.max(logits).finite);
        EXPECT_EQ(passes.max(std::vector<float>(size, -kInfinity)).max, -kInfinity);
      }
    }
  }
}

}  // namespace
}  // namespace tandem
