#include "worker/model/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/golden.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

class InspectTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden("gguf_q4_0"));
    ASSERT_OK_AND_ASSIGN(files_, ModelFiles::Open(golden.model));
  }
  std::unique_ptr<ModelFiles> files_;
};

// Two layers of q 64x64, k and v 32x64, o 64x64 and 3 matrices of 96x64; embedding and head.
constexpr int64_t kMatrices = 2 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 96 * 64) + 320 * 64;
constexpr int64_t kEmbedding = 320 * 64;
constexpr int64_t kNorms = 5 * 64;
constexpr uint64_t kWeightBytes = kMatrices / 32 * 18 + kEmbedding / 32 * 34 + kNorms * 4;

TEST_F(InspectTest, CountsParametersBytesAndKv) {
  const Inspection seen = Inspect(*files_, {.kv_element_bytes = 2});
  EXPECT_EQ(seen.format, "gguf");
  EXPECT_EQ(seen.tokenizer, "BPE");
  EXPECT_EQ(seen.tokenizer_size, files_->assets().tokenizer_size);
  EXPECT_EQ(seen.parameters, kMatrices + kEmbedding + kNorms);
  EXPECT_EQ(seen.weight_bytes.at("Q4_0"), kMatrices / 32 * 18);
  EXPECT_EQ(seen.weight_bytes.at("Q8_0"), kEmbedding / 32 * 34);
  EXPECT_EQ(seen.total_weight_bytes, kWeightBytes);
  EXPECT_EQ(seen.kv_bytes_per_token, 2 * 2 * 2 * 16 * 2);  // layers, k and v, heads, size, bytes
}

TEST_F(InspectTest, SaysWhetherItFits) {
  const uint64_t per_token = Inspect(*files_, {}).kv_bytes_per_token;
  const Inspection barely = Inspect(*files_, {.memory_bytes = kWeightBytes + 3 * per_token + 1});
  EXPECT_TRUE(barely.fits);
  EXPECT_EQ(barely.tokens_that_fit, 3);
  EXPECT_THAT(InspectionText(barely), HasSubstr("hold the KV of 3 tokens"));
  const Inspection too_small = Inspect(*files_, {.memory_bytes = kWeightBytes});
  EXPECT_FALSE(too_small.fits);
  EXPECT_THAT(InspectionText(too_small), HasSubstr("fits           no: "));
  EXPECT_THAT(InspectionText(Inspect(*files_, {})), testing::Not(HasSubstr("fits")));
}

TEST_F(InspectTest, JsonSaysTheSame) {
  const Inspection seen = Inspect(*files_, {.memory_bytes = 1 << 30});
  const nlohmann::json json = nlohmann::json::parse(InspectionJson(seen), nullptr, false);
  EXPECT_EQ(json["architecture"], "llama");
  EXPECT_EQ(json["tokenizer"], "BPE");
  EXPECT_EQ(json["chat_template"], seen.chat_template);
  EXPECT_EQ(json["parameters"], seen.parameters);
  EXPECT_EQ(json["kv_bytes_per_token"], seen.kv_bytes_per_token);
  EXPECT_EQ(json["weight_bytes_by_type"]["Q4_0"], seen.weight_bytes.at("Q4_0"));
  EXPECT_EQ(json["fits"], true);
}

TEST(Inspect, SaysWhatIsSpecialOfAFamily) {
  const auto text_of = [](absl::string_view name) -> std::string {
    const absl::StatusOr<Golden> golden = ReadGolden(name);
    EXPECT_THAT(golden, IsOk());
    const auto files = ModelFiles::Open(golden->model);
    EXPECT_THAT(files, IsOk());
    return InspectionText(Inspect(**files, {}));
  };
  EXPECT_THAT(text_of("gguf_qwen3"),
              AllOf(HasSubstr("is             qwen3 (qwen3, gguf)\n"),
                    HasSubstr("attention      4 heads of 32 over 2 of keys and values, normed\n")));
  EXPECT_THAT(text_of("qwen2_yarn"),
              AllOf(HasSubstr("Qwen2ForCausalLM (qwen2, safetensors)"),
                    HasSubstr(", with biases of q, k and v\n"),
                    HasSubstr("rope           theta 100, yarn x 4 of 64\n")));
  EXPECT_THAT(text_of("qwen2_window"), HasSubstr("; 2 of 3 layers see 7 tokens\n"));
  EXPECT_THAT(text_of("gguf_q4_k_m"), AllOf(HasSubstr("Q4_K "), HasSubstr("Q6_K ")));
}

}  // namespace
}  // namespace tandem
