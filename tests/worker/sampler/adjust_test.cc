#include "worker/sampler/adjust.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool Has(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

struct Tokens {
  std::vector<int32_t> prompt, output, forbidden;
  DrawContext context() const { return {prompt, output, forbidden}; }
};

// One logit, by the words of the API: each sentence of it is a line.
float ByDefinition(float logit, int32_t id, const SamplingSpec& spec, const Tokens& tokens) {
  const bool allowed = spec.allowed_ids.empty() || Has(spec.allowed_ids, id);
  if (!allowed || Has(tokens.forbidden, id)) return -kInfinity;
  for (const auto& [biased, bias] : spec.logit_bias) {
    if (biased == id) logit = logit + bias;
  }
  if (Has(tokens.prompt, id) || Has(tokens.output, id)) {
    logit = logit > 0 ? logit / spec.repetition_penalty : logit * spec.repetition_penalty;
  }
  const auto times = std::count(tokens.output.begin(), tokens.output.end(), id);
  if (times > 0) logit = logit - spec.frequency_penalty * static_cast<float>(times);
  if (times > 0) logit = logit - spec.presence_penalty;
  return logit;
}

std::vector<float> RandomLogits(std::mt19937_64& rng, size_t n) {
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(rng);
  return logits;
}

std::vector<int32_t> RandomIds(std::mt19937_64& rng, size_t most, size_t vocab) {
  std::vector<int32_t> ids(rng() % (most + 1));
  for (int32_t& id : ids) id = static_cast<int32_t>(rng() % vocab);
  return ids;
}

std::vector<int32_t> Distinct(const std::vector<int32_t>& ids) {
  const std::set<int32_t> set(ids.begin(), ids.end());
  return {set.begin(), set.end()};
}

SamplingSpec RandomSpec(std::mt19937_64& rng, size_t vocab) {
  SamplingSpec spec;
  const auto in = [&](float low, float high) { return low + (high - low) * (rng() % 101) / 100; };
  if (rng() % 2 == 0) spec.presence_penalty = in(-2, 2);
  if (rng() % 2 == 0) spec.frequency_penalty = in(-2, 2);
  if (rng() % 2 == 0) spec.repetition_penalty = in(0.1f, 10);
  if (rng() % 2 == 0) spec.allowed_ids = Distinct(RandomIds(rng, 12, vocab));
  for (const int32_t id : Distinct(RandomIds(rng, rng() % 5, vocab))) {
    spec.logit_bias.emplace_back(id, in(-100, 100));
  }
  return spec;
}

TEST(Adjust, EveryLogitIsWhatTheFieldsSayToTheLastBit) {
  std::mt19937_64 rng(::testing::UnitTest::GetInstance()->random_seed());
  LogitAdjuster adjuster;
  for (int round = 0; round < 2000; ++round) {
    SCOPED_TRACE(round);
    const size_t vocab = 1 + rng() % 60;
    const std::vector<float> logits = RandomLogits(rng, vocab);
    const SamplingSpec spec = RandomSpec(rng, vocab);
    Tokens tokens = {RandomIds(rng, 40, vocab), RandomIds(rng, 40, vocab), {}};
    if (rng() % 3 == 0) tokens.forbidden = Distinct(RandomIds(rng, 4, vocab));
    ASSERT_OK_AND_ASSIGN(const auto adjusted, adjuster.Adjust(logits, spec, tokens.context()));
    ASSERT_EQ(adjusted.size(), vocab);
    for (size_t id = 0; id < vocab; ++id) {
      ASSERT_EQ(adjusted[id], ByDefinition(logits[id], static_cast<int32_t>(id), spec, tokens))
          << "id " << id;
    }
  }
}

TEST(Adjust, NeutralFieldsCostNothing) {
  LogitAdjuster adjuster;
  const std::vector<float> logits = {1, 2, 3};
  const Tokens tokens = {{0, 1}, {2}, {}};
  ASSERT_OK_AND_ASSIGN(const auto adjusted, adjuster.Adjust(logits, {}, tokens.context()));
  EXPECT_EQ(adjusted.data(), logits.data());
}

TEST(Adjust, RepetitionLooksAtPromptAndOutputTheOthersAtTheOutputAlone) {
  LogitAdjuster adjuster;
  const std::vector<float> logits = {2, 2, -2, 2};
  const Tokens tokens = {{0}, {2, 1, 1}, {}};
  EXPECT_THAT(*adjuster.Adjust(logits, {.repetition_penalty = 2}, tokens.context()),
              ElementsAre(1, 1, -4, 2));
  EXPECT_THAT(*adjuster.Adjust(logits, {.presence_penalty = 0.5f}, tokens.context()),
              ElementsAre(2, 1.5f, -2.5f, 2));
  EXPECT_THAT(*adjuster.Adjust(logits, {.frequency_penalty = 0.5f}, tokens.context()),
              ElementsAre(2, 1, -2.5f, 2));
}

TEST(Adjust, ExtremesStayFiniteAndTheImpossibleStaysImpossible) {
  LogitAdjuster adjuster;
  const Tokens tokens = {{0, 1, 2}, {}, {}};
  ASSERT_OK_AND_ASSIGN(const auto adjusted,
                       adjuster.Adjust({9, -9, -kInfinity},
                                       {.repetition_penalty = 1e-40f, .logit_bias = {{2, 100.0f}}},
                                       tokens.context()));
  EXPECT_EQ(adjusted[0], std::numeric_limits<float>::max());
  EXPECT_EQ(adjusted[2], -kInfinity);
}

TEST(Adjust, ABrokenModelIsNotHiddenByAMask) {
  LogitAdjuster adjuster;
  EXPECT_THAT(adjuster.Adjust({1, NAN}, {.allowed_ids = {0}}, {}).status(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not finite")));
  const std::vector<int32_t> stop = {1};
  EXPECT_THAT(adjuster.Adjust({1, kInfinity}, {}, {{}, {}, stop}).status(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not finite")));
}

// 60,000 draws after a given output; the expected shares are computed in double from the fields'
// definition.
TEST(Adjust, DrawsFollowTheAdjustedSoftmax) {
  constexpr size_t kVocab = 12;
  constexpr int kDraws = 60000;
  std::mt19937_64 rng(11);
  const std::vector<float> logits = RandomLogits(rng, kVocab);
  const Tokens tokens = {{1, 2, 2}, {3, 3, 4, 1}, {0}};
  const SamplingSpec specs[] = {
      {.temperature = 3, .seed = 1, .presence_penalty = 1.5f, .frequency_penalty = -0.5f},
      {.temperature = 3, .seed = 2, .repetition_penalty = 1.7f},
      {.temperature = 3, .seed = 3, .logit_bias = {{5, 3}, {6, -4}}},
      {.temperature = 3, .seed = 4, .presence_penalty = 1, .allowed_ids = {1, 3, 4, 7, 9}}};
  for (const SamplingSpec& spec : specs) {
    SCOPED_TRACE(spec.seed);
    std::vector<double> expected(kVocab);
    double sum = 0;
    for (size_t id = 0; id < kVocab; ++id) {
      const float logit = ByDefinition(logits[id], static_cast<int32_t>(id), spec, tokens);
      sum += expected[id] = std::exp(double{logit} / spec.temperature);
    }
    LogitAdjuster adjuster;
    Sampler sampler;
    std::vector<int> counts(kVocab);
    ASSERT_OK_AND_ASSIGN(const auto adjusted, adjuster.Adjust(logits, spec, tokens.context()));
    for (uint32_t position = 0; position < kDraws; ++position) {
      ++counts[*sampler.Sample(adjusted, spec, 0, position)];
    }
    double chi_square = 0;
    int degrees = -1;
    for (size_t id = 0; id < kVocab; ++id) {
      if (expected[id] == 0) {
        EXPECT_EQ(counts[id], 0) << id;
        continue;
      }
      ++degrees;
      const double want = expected[id] / sum * kDraws;
      chi_square += (counts[id] - want) * (counts[id] - want) / want;
    }
    EXPECT_LT(chi_square, degrees + 4.5 * std::sqrt(2.0 * degrees)) << degrees << " degrees";
  }
}

}  // namespace
}  // namespace tandem
