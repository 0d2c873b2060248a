#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/status_matchers.h"
#include "worker/model/dequant.h"
#include "worker/model/mapped_file.h"
#include "worker/model/model_files.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;

// The model that deploy/setup puts into the user's cache.
class DefaultModel : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = CacheFolder() + "/SmolLM2-135M-Instruct.Q4_1.gguf";
    ASSERT_TRUE(std::filesystem::exists(path)) << path << " is not there: run deploy/setup";
    ASSERT_OK_AND_ASSIGN(files_, ModelFiles::Open(path));
  }
  std::unique_ptr<ModelFiles> files_;
};

TEST_F(DefaultModel, HasTheSpecItWasPublishedWith) {
  const ModelSpec& spec = files_->spec();
  EXPECT_EQ(spec.family, "llama");
  EXPECT_EQ(spec.layers, 30);
  EXPECT_EQ(spec.dim, 576);
  EXPECT_EQ(spec.ffn_dim, 1536);
  EXPECT_EQ(spec.q_heads, 9);
  EXPECT_EQ(spec.kv_heads, 3);
  EXPECT_EQ(spec.head_dim, 64);
  EXPECT_EQ(spec.vocab, 49152);
  EXPECT_EQ(spec.max_context, 8192);
  EXPECT_EQ(spec.rope.theta, 100000.0);
  EXPECT_EQ(spec.rope.scaling, RopeScaling::kNone);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  EXPECT_TRUE(spec.tied_embeddings);
  EXPECT_FALSE(spec.qkv_bias);
  EXPECT_EQ(spec.bos_id, 1);
  EXPECT_EQ(spec.pad_id, 2);
  EXPECT_THAT(spec.eos_ids, ElementsAre(2));
}

TEST_F(DefaultModel, KeepsItsWeightsPackedWithTheRowsOfQueryAndKeyReordered) {
  ASSERT_OK_AND_ASSIGN(const WeightView q, files_->Weight("q", 7));
  EXPECT_EQ(q.dtype, DType::kQ4_1);
  EXPECT_EQ(q.rows, 576);
  EXPECT_EQ(q.cols, 576);
  EXPECT_EQ(q.bytes, 576 * 576 / 32 * 20);
  ASSERT_EQ(q.row_order.size(), 576);
  EXPECT_EQ(q.row_order[1], 2);
  EXPECT_EQ(q.row_order[32], 1);
  EXPECT_EQ(q.row_order[64], 64);
  ASSERT_OK_AND_ASSIGN(const WeightView v, files_->Weight("v", 7));
  EXPECT_TRUE(v.row_order.empty());
  ASSERT_OK_AND_ASSIGN(const WeightView head, files_->Weight("lm_head"));
  ASSERT_OK_AND_ASSIGN(const WeightView embed, files_->Weight("embed"));
  EXPECT_EQ(head.data, embed.data);
  EXPECT_EQ(head.dtype, DType::kQ8_0);
  EXPECT_THAT(files_->Weight("q_bias", 0), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(DefaultModel, BringsItsTokenizerTemplateAndSpecialTokens) {
  const Asset* tokenizer = files_->assets().Find("tokenizer.json");
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(tokenizer->data, testing::HasSubstr(R"("content":"<|im_end|>")"));
  const Asset* chat = files_->assets().Find("chat_template.jinja");
  ASSERT_NE(chat, nullptr);
  EXPECT_THAT(chat->data, testing::HasSubstr("<|im_start|>"));
  EXPECT_EQ(chat->digest.size(), 64);
  const Asset* special = files_->assets().Find("special_tokens.json");
  ASSERT_NE(special, nullptr);
  EXPECT_THAT(special->data, testing::HasSubstr(R"("eos_token":"<|im_end|>")"));
  EXPECT_EQ(files_->assets().license, "apache-2.0");
  EXPECT_EQ(files_->assets().tokenizer_size, 49152);
}

}  // namespace
}  // namespace tandem
