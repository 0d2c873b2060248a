// The sampler against tests/golden/sampling.py, which says the same in numpy.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/sampler/adjust.h"
#include "worker/sampler/logprobs.h"
#include "worker/sampler/sampler.h"

namespace tandem {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

SamplingSpec ReadSpec(const json& from) {
  SamplingSpec spec;
  spec.temperature = from.at("temperature");
  spec.top_p = from.at("top_p");
  spec.top_k = from.at("top_k");
  spec.min_p = from.at("min_p");
  spec.seed = from.at("seed");
  spec.presence_penalty = from.at("presence_penalty");
  spec.frequency_penalty = from.at("frequency_penalty");
  spec.repetition_penalty = from.at("repetition_penalty");
  for (const json& one : from.at("logit_bias")) spec.logit_bias.emplace_back(one[0], one[1]);
  spec.allowed_ids = from.at("allowed_ids").get<Ids>();
  return spec;
}

class NumpyTest : public ::testing::Test {
 protected:
  static json Cases() {
    std::ifstream file(TANDEM_SOURCE_DIR "/tests/golden/sampling.json");
    return json::parse(file);
  }
};

TEST_F(NumpyTest, DrawsTheSameTokens) {
  LogitAdjuster adjuster;
  Sampler sampler;
  int draws = 0;
  for (const json& one : Cases()) {
    const auto logits = one.at("logits").get<std::vector<float>>();
    const auto prompt = one.at("prompt").get<Ids>(), output = one.at("output").get<Ids>(),
               forbidden = one.at("forbidden").get<Ids>();
    const SamplingSpec spec = ReadSpec(one.at("spec"));
    ASSERT_OK_AND_ASSIGN(const auto adjusted,
                         adjuster.Adjust(logits, spec, {prompt, output, forbidden}));
    for (const json& draw : one.at("draws")) {
      EXPECT_THAT(sampler.Sample(adjusted, spec, draw.at("output_index"), draw.at("position")),
                  IsOkAndHolds(draw.at("token").get<int32_t>()))
          << one.at("spec") << draw;
      ++draws;
    }
  }
  EXPECT_GT(draws, 500);
}

TEST_F(NumpyTest, GivesTheSameLogProbabilities) {
  for (const json& one : Cases()) {
    const auto logits = one.at("logits").get<std::vector<float>>();
    const auto want = one.at("logprobs").get<std::vector<double>>();
    const auto likeliest = one.at("likeliest").get<Ids>();
    for (size_t rank = 0; rank < likeliest.size(); ++rank) {
      const PositionLogprobs got = MakeLogprobs(logits, likeliest[rank], 5);
      EXPECT_EQ(got.token.rank, rank + 1);
      EXPECT_NEAR(got.token.logprob, want[likeliest[rank]], 2e-6);
      ASSERT_EQ(got.top.size(), 5u);
      for (size_t i = 0; i < 5; ++i) EXPECT_EQ(got.top[i].token_id, likeliest[i]);
    }
  }
}

}  // namespace
}  // namespace tandem
