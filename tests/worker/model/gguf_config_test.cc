#include "worker/model/gguf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/gguf_writer.h"
#include "tests/support/status_matchers.h"
#include "worker/model/assets.h"
#include "worker/model/families.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

auto Refused(absl::string_view why) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(why)));
}

auto Unsupported(absl::string_view why) {
  return StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(std::string(why)));
}

// The least metadata that a Llama needs.
GgufWriter Llama() {
  GgufWriter writer;
  writer.Text("general.architecture", "llama")
      .Int("llama.block_count", 2)
      .Int("llama.embedding_length", 32)
      .Int("llama.feed_forward_length", 64)
      .Int("llama.context_length", 128)
      .Int("llama.attention.head_count", 4)
      .Float("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .Texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<s>", "</s>"});
  return writer;
}

absl::StatusOr<ModelSpec> SpecOf(const GgufWriter& writer, size_t data_bytes = 0) {
  const std::vector<uint8_t> file = writer.File(data_bytes);
  ASSIGN_OR_RETURN(const Gguf gguf, ParseGguf(file));
  return ParseGgufConfig(gguf);
}

TEST(GgufConfig, FillsInWhatTheMetadataLeavesOut) {
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, SpecOf(Llama()));
  EXPECT_EQ(spec.kv_heads, 4);
  EXPECT_EQ(spec.head_dim, 8);
  EXPECT_EQ(spec.vocab, 5);
  EXPECT_EQ(spec.rope.theta, 10000.0);
  EXPECT_EQ(spec.bos_id, -1);
  EXPECT_TRUE(spec.eos_ids.empty());
  EXPECT_TRUE(spec.tied_embeddings);
}

TEST(GgufConfig, CollectsEveryTokenThatEndsAnAnswer) {
  GgufWriter writer = Llama();
  writer.Int("tokenizer.ggml.eos_token_id", 4)
      .Int("tokenizer.ggml.eot_token_id", 3)
      .Int("tokenizer.ggml.eom_token_id", 4)
      .Int("tokenizer.ggml.padding_token_id", 5);  // outside: none
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, SpecOf(writer));
  EXPECT_THAT(spec.eos_ids, ElementsAre(4, 3));
  EXPECT_EQ(spec.pad_id, -1);
}

TEST(GgufConfig, ReadsEveryWayOfScaling) {
  GgufWriter linear = Llama();
  linear.Text("llama.rope.scaling.type", "linear").Float("llama.rope.scaling.factor", 4);
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, SpecOf(linear));
  EXPECT_EQ(spec.rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(spec.rope.factor, 4);
  GgufWriter yarn = Llama();
  yarn.Text("llama.rope.scaling.type", "yarn")
      .Float("llama.rope.scaling.factor", 4)
      .Int("llama.rope.scaling.original_context_length", 64)
      .Float("llama.rope.scaling.attn_factor", 2);
  ASSERT_OK_AND_ASSIGN(const ModelSpec stretched, SpecOf(yarn));
  EXPECT_EQ(stretched.rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(stretched.rope.original_context, 64);
  EXPECT_EQ(stretched.max_context, 256);
  EXPECT_NEAR(stretched.rope.magnitude, 2 * 1.1386294, 1e-6);
  GgufWriter both = linear;
  both.Tensor("rope_freqs.weight", {4}, 0, 0);
  EXPECT_THAT(SpecOf(both, 16), Unsupported("together with rope_freqs.weight"));
  GgufWriter zeros = Llama();
  zeros.Tensor("rope_freqs.weight", {4}, 0, 0);
  EXPECT_THAT(SpecOf(zeros, 16), Refused("a divisor of 0"));
  GgufWriter few = Llama();
  few.Tensor("rope_freqs.weight", {3}, 0, 0);
  EXPECT_THAT(SpecOf(few, 16), Refused("want 4 divisors, found 3"));
  GgufWriter half = Llama();
  half.Tensor("rope_freqs.weight", {4}, 1, 0);
  EXPECT_THAT(SpecOf(half, 16), Refused("tensor \"rope_freqs.weight\": want F32, file has F16"));
}

TEST(GgufConfig, NamesWhatItDoesNotSupport) {
  EXPECT_THAT(
      SpecOf(GgufWriter().Text("general.architecture", "mamba")),
      Unsupported("architecture \"mamba\" is not supported; supported: llama, qwen2, qwen3"));
  EXPECT_THAT(SpecOf(Llama().Int("llama.expert_count", 8)),
              Unsupported("llama.expert_count = 8 is not supported; supported: 0"));
  EXPECT_THAT(SpecOf(Llama().Int("llama.rope.dimension_count", 4)),
              Unsupported("llama.rope.dimension_count = 4 is not supported; supported: 8"));
  EXPECT_THAT(SpecOf(Llama().Text("llama.rope.scaling.type", "su")), Unsupported("\"su\""));
  EXPECT_THAT(SpecOf(Llama().Int("llama.attention.sliding_window", 64)),
              Unsupported("llama.attention.sliding_window = 64 is not supported; supported: 0"));
}

TEST(GgufConfig, NamesTheKeyThatIsMissingOrWrong) {
  EXPECT_THAT(SpecOf(GgufWriter().Text("general.architecture", "llama")),
              Refused("metadata llama.block_count is missing"));
  EXPECT_THAT(SpecOf(Llama().Float("llama.vocab_size", 5)),
              Refused("metadata llama.vocab_size: want one whole number"));
  EXPECT_THAT(SpecOf(Llama().Int("llama.attention.head_count_kv", 3)),
              Refused("can't share 3 key/value heads"));
  EXPECT_THAT(SpecOf(Llama().Int("llama.attention.key_length", 0)), Refused("head size"));
}

absl::StatusOr<ModelAssets> AssetsOf(const GgufWriter& writer) {
  const std::vector<uint8_t> file = writer.File(0);
  ASSIGN_OR_RETURN(const Gguf gguf, ParseGguf(file));
  ASSIGN_OR_RETURN(const ModelSpec spec, ParseGgufConfig(gguf));
  return ReadGgufAssets(gguf.metadata, spec);
}

GgufWriter WithTokenizer() {
  GgufWriter writer = Llama();
  writer.Text("tokenizer.ggml.model", "gpt2")
      .Text("tokenizer.ggml.pre", "gpt-2")
      .Texts("tokenizer.ggml.merges", {"a b"})
      .Int("tokenizer.ggml.bos_token_id", 3)
      .Key("tokenizer.ggml.add_bos_token", GgufWriter::kBool)
      .Raw<uint8_t>(1);
  return writer;
}

TEST(GgufAssets, AreTheTokenizerTheTemplateAndTheTokensItNames) {
  GgufWriter writer = WithTokenizer();
  writer.Text("tokenizer.chat_template", "{{ x }}").Text("general.license", "mit");
  ASSERT_OK_AND_ASSIGN(const ModelAssets assets, AssetsOf(writer));
  ASSERT_NE(assets.Find("tokenizer.json"), nullptr);
  EXPECT_THAT(assets.Find("tokenizer.json")->data, HasSubstr(R"("TemplateProcessing")"));
  EXPECT_EQ(assets.Find("chat_template.jinja")->data, "{{ x }}");
  EXPECT_EQ(assets.Find("special_tokens.json")->data, R"({"bos_token":"<s>"})");
  EXPECT_EQ(assets.license, "mit");
  EXPECT_EQ(assets.tokenizer_size, 5);
}

TEST(GgufAssets, NameTheKeyOfATokenizerThatContradictsItself) {
  GgufWriter outside = WithTokenizer();
  outside.Int("tokenizer.ggml.eos_token_id", 5);
  EXPECT_THAT(AssetsOf(outside), Refused("tokenizer.ggml.eos_token_id is 5"));
  GgufWriter typed = WithTokenizer();
  typed.Int("tokenizer.ggml.scores", 5);
  EXPECT_THAT(AssetsOf(typed), Refused("metadata tokenizer.ggml.scores: want an array"));
  GgufWriter latin = WithTokenizer();
  latin.Text("tokenizer.chat_template", "\xe9");
  EXPECT_THAT(AssetsOf(latin), Refused("the chat template is not valid UTF-8"));
}

TEST(GgufAssets, RefuseATokenizerWithMoreTokensThanRows) {
  GgufWriter writer = Llama();
  writer.Int("llama.vocab_size", 4);
  EXPECT_THAT(AssetsOf(writer),
              Refused("the tokenizer has 5 tokens and the model's embedding 4 rows"));
}

TEST(CheckSpec, AContextWhoseAnglesAreNotExactIsRefused) {
  ModelSpec spec;
  spec.layers = spec.q_heads = spec.kv_heads = spec.ffn_dim = spec.vocab = spec.dim = 1;
  spec.head_dim = 2;
  spec.max_context = 1 << 20;
  EXPECT_TRUE(CheckSpec(spec).ok()) << CheckSpec(spec);
  spec.max_context += 1;
  EXPECT_EQ(CheckSpec(spec).code(), absl::StatusCode::kInvalidArgument);
  spec.rope.scaling = RopeScaling::kLinear;
  spec.rope.factor = 1e-6;
  spec.max_context = 4096;
  EXPECT_EQ(CheckSpec(spec).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tandem
