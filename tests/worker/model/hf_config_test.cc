#include "worker/model/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

auto Refused(absl::string_view why) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(why)));
}

auto Unsupported(absl::string_view why) {
  return StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(std::string(why)));
}

absl::StatusOr<ModelSpec> SpecWith(const std::string& architecture, const json& changes) {
  json config = {{"architectures", {architecture}}, {"hidden_size", 512},
                 {"intermediate_size", 1024},       {"num_hidden_layers", 4},
                 {"num_attention_heads", 32},       {"vocab_size", 1000}};
  config.update(changes);
  return ParseHfConfig(config.dump(), "");
}

absl::StatusOr<std::vector<int32_t>> WindowsWith(const json& changes) {
  ASSIGN_OR_RETURN(const ModelSpec spec, SpecWith("Qwen3ForCausalLM", changes));
  return spec.windows;
}

TEST(HfConfig, WhatIsAbsentHasTheDefaultOfTheFamily) {
  ASSERT_OK_AND_ASSIGN(const ModelSpec llama,
                       SpecWith("LlamaForCausalLM", {{"num_key_value_heads", 8}}));
  EXPECT_EQ(llama.head_dim, 16);
  EXPECT_EQ(llama.max_context, 2048);
  EXPECT_FALSE(llama.qkv_bias || llama.o_bias || llama.qk_norm);
  ASSERT_OK_AND_ASSIGN(const ModelSpec qwen2, SpecWith("Qwen2ForCausalLM", json::object()));
  EXPECT_EQ(qwen2.family, "qwen2");
  EXPECT_EQ(qwen2.head_dim, 16);
  EXPECT_EQ(qwen2.kv_heads, 32);
  EXPECT_EQ(qwen2.max_context, 32768);
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.o_bias || qwen2.qk_norm);
  ASSERT_OK_AND_ASSIGN(const ModelSpec qwen3, SpecWith("Qwen3ForCausalLM", json::object()));
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_FALSE(qwen3.qkv_bias || qwen3.o_bias);
}

TEST(HfConfig, WindowsAreThoseOfTransformers) {
  // As Qwen's files have it: named, and not used.
  EXPECT_THAT(WindowsWith({{"sliding_window", 4096}, {"max_window_layers", 0}}),
              IsOkAndHolds(IsEmpty()));
  const json used = {{"use_sliding_window", true}, {"sliding_window", 9}};
  EXPECT_THAT(WindowsWith(used), IsOkAndHolds(IsEmpty()));  // layers from 28 on slide
  json some = used;
  some["max_window_layers"] = 3;
  EXPECT_THAT(WindowsWith(some), IsOkAndHolds(ElementsAre(0, 0, 0, 9)));
  some["layer_types"] = {"sliding_attention", "full_attention", "full_attention",
                         "sliding_attention"};
  EXPECT_THAT(WindowsWith(some), IsOkAndHolds(ElementsAre(9, 0, 0, 9)));
  some["layer_types"][0] = "linear_attention";
  EXPECT_THAT(WindowsWith(some), Unsupported("\"layer_types\"[0] \"linear_attention\""));
  some["layer_types"][0] = 1;
  EXPECT_THAT(WindowsWith(some), Unsupported("\"layer_types\"[0] \"\""));
  EXPECT_THAT(WindowsWith({{"layer_types", {"full_attention"}}}), Refused("a list of 4 names"));
  EXPECT_THAT(
      WindowsWith({{"layer_types",
                    {"full_attention", "sliding_attention", "full_attention", "full_attention"}}}),
      Refused("\"layer_types\"[1] slides, and \"use_sliding_window\" is not true"));
  EXPECT_THAT(WindowsWith({{"use_sliding_window", true}, {"sliding_window", 0}}),
              Refused("\"sliding_window\": want a number in [1,"));
  EXPECT_THAT(WindowsWith({{"num_hidden_layers", 2000000000}}),
              Refused("\"num_hidden_layers\": want a number in [1, 1024]"));
}

TEST(HfConfig, YarnIsReadAsTransformersReadsIt) {
  const auto rope_of = [](const json& scaling, const char* key) {
    return SpecWith("Qwen2ForCausalLM", {{key, scaling}, {"max_position_embeddings", 40960}});
  };
  json scaling = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};
  ASSERT_OK_AND_ASSIGN(const ModelSpec qwen, rope_of(scaling, "rope_scaling"));
  EXPECT_EQ(qwen.rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(qwen.max_context, 131072);
  EXPECT_NEAR(qwen.rope.magnitude, 1.13862944, 1e-8);
  scaling["mscale"] = 1.0;  // alone: ignored
  EXPECT_NEAR(rope_of(scaling, "rope_scaling")->rope.magnitude, 1.13862944, 1e-8);
  scaling["mscale_all_dim"] = 1.0;
  EXPECT_EQ(rope_of(scaling, "rope_parameters")->rope.magnitude, 1);
  scaling["attention_factor"] = 1.5;
  EXPECT_EQ(rope_of(scaling, "rope_parameters")->rope.magnitude, 1.5);
  scaling.erase("original_max_position_embeddings");
  EXPECT_EQ(rope_of(scaling, "rope_parameters")->rope.original_context, 40960);
  scaling["attention_factor"] = -1;
  EXPECT_THAT(rope_of(scaling, "rope_parameters"), Refused("must be above 0, found -1"));
  scaling["attention_factor"] = 1;
  scaling["beta_slow"] = 33;
  EXPECT_THAT(rope_of(scaling, "rope_parameters"), Refused("beta_fast >= beta_slow"));
  scaling.erase("factor");
  EXPECT_THAT(rope_of(scaling, "rope_parameters"), Refused("\"factor\" is missing"));
}

}  // namespace
}  // namespace tandem
