#include "worker/model/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/support/golden.h"
#include "tests/support/status_matchers.h"
#include "worker/model/dequant.h"
#include "worker/model/weights_digest.h"

namespace tandem {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

auto Refused(absl::string_view why) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(why)));
}

auto Unsupported(absl::string_view why) {
  return StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(std::string(why)));
}

auto NotFound(absl::string_view what) {
  return StatusIs(absl::StatusCode::kNotFound, HasSubstr(std::string(what)));
}

// A copy of a tiny model that a test may spoil.
class ModelFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/model_",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    CopyOf("gqa");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void CopyOf(absl::string_view name) {
    ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden(name));
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(golden.model, folder_, std::filesystem::copy_options::recursive);
  }
  std::string PathOf(absl::string_view file) const { return absl::StrCat(folder_, "/", file); }
  void Write(absl::string_view file, absl::string_view text) {
    std::ofstream(PathOf(file)) << text;
  }
  json Read(absl::string_view file) {
    std::ifstream in(PathOf(file));
    return json::parse(in, nullptr, false);
  }
  absl::Status Open() { return ModelFiles::Open(folder_).status(); }
  // The status of opening the model with these changes of config.json.
  absl::Status OpenWith(const json& changes) {
    const json original = Read("config.json");
    json changed = original;
    changed.merge_patch(changes);
    Write("config.json", changed.dump());
    const absl::Status status = Open();
    Write("config.json", original.dump());
    return status;
  }

  std::string folder_;
};

TEST_F(ModelFilesTest, ReadsAFolder) {
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(folder_));
  EXPECT_EQ(files->format(), ModelFormat::kSafetensors);
  const ModelSpec& spec = files->spec();
  EXPECT_EQ(spec.architecture, "LlamaForCausalLM");
  EXPECT_EQ(spec.layers, 2);
  EXPECT_EQ(spec.head_dim, 16);
  EXPECT_EQ(spec.kv_heads, 2);
  EXPECT_FALSE(spec.tied_embeddings);
  EXPECT_THAT(spec.eos_ids, ElementsAre(2));
  ASSERT_OK_AND_ASSIGN(const WeightView k, files->Weight("k", 1));
  EXPECT_EQ(k.name, "model.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(k.rows, 32);
  EXPECT_EQ(k.cols, 64);
  EXPECT_TRUE(k.row_order.empty());
  EXPECT_THAT(files->Weight("k", 2), NotFound("no weight \"k\" of layer 2"));
}

TEST_F(ModelFilesTest, BringsTheAssets) {
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(folder_));
  const ModelAssets& assets = files->assets();
  EXPECT_EQ(assets.tokenizer_size, 300);
  for (const absl::string_view name : {"tokenizer.json", "chat_template.jinja", "LICENSE",
                                       "generation_config.json", "special_tokens.json"}) {
    ASSERT_NE(assets.Find(name), nullptr) << name;
    EXPECT_EQ(assets.Find(name)->digest.size(), 64) << name;
  }
  EXPECT_EQ(assets.Find("special_tokens.json")->data,
            R"({"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>"})");
  EXPECT_EQ(assets.Find("vocab.json"), nullptr);
}

TEST_F(ModelFilesTest, TakesTheTemplateFromEachPlaceItMayBeIn) {
  json config = Read("tokenizer_config.json");
  config["chat_template"] = json::parse(
      R"([{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}])");
  Write("tokenizer_config.json", config.dump());
  ASSERT_OK_AND_ASSIGN(const auto listed, ModelFiles::Open(folder_));
  EXPECT_EQ(listed->assets().Find("chat_template.jinja")->data, "D");
  Write("chat_template.jinja", "own file");
  ASSERT_OK_AND_ASSIGN(const auto file, ModelFiles::Open(folder_));
  EXPECT_EQ(file->assets().Find("chat_template.jinja")->data, "own file");
  Write("chat_template.jinja", "\xff");
  EXPECT_THAT(Open(), Refused("the chat template is not valid UTF-8"));
}

TEST_F(ModelFilesTest, SaysWhichFileIsMissing) {
  EXPECT_THAT(ModelFiles::Open(folder_ + "/none"), NotFound("/none"));
  std::filesystem::remove(PathOf("tokenizer.json"));
  EXPECT_THAT(Open(), NotFound("tokenizer.json: not there"));
  std::filesystem::remove(PathOf("model.safetensors"));
  EXPECT_THAT(Open(), NotFound("neither model.safetensors nor"));
  std::filesystem::remove(PathOf("config.json"));
  EXPECT_THAT(Open(), NotFound("config.json: not there; want a Hugging Face model folder"));
}

TEST_F(ModelFilesTest, NamesWhatItDoesNotSupport) {
  EXPECT_THAT(OpenWith({{"architectures", {"MambaForCausalLM"}}}),
              Unsupported("\"MambaForCausalLM\" is not supported; supported: LlamaForCausalLM, "
                          "Qwen2ForCausalLM, Qwen3ForCausalLM"));
  EXPECT_THAT(OpenWith({{"hidden_act", "gelu"}}), Unsupported("\"gelu\""));
  EXPECT_THAT(OpenWith({{"quantization_config", {{"quant_method", "gptq"}}}}),
              Unsupported("quantised by \"gptq\""));
  EXPECT_THAT(
      OpenWith({{"rope_parameters", {{"rope_type", "longrope"}, {"factor", 4.0}}}}),
      Unsupported("\"longrope\" is not supported; supported: default, linear, llama3, yarn"));
  EXPECT_THAT(OpenWith({{"rope_parameters", {{"partial_rotary_factor", 0.5}}}}),
              Unsupported("partial_rotary_factor"));
}

TEST_F(ModelFilesTest, NamesTheWrongMemberOfTheConfiguration) {
  EXPECT_THAT(OpenWith({{"architectures", nullptr}}), Refused("\"architectures\" must be a list"));
  EXPECT_THAT(OpenWith({{"hidden_size", nullptr}}), Refused("\"hidden_size\" is missing"));
  EXPECT_THAT(OpenWith({{"hidden_size", "64"}}), Refused("\"hidden_size\": want a number"));
  EXPECT_THAT(OpenWith({{"hidden_size", 64.5}}), Refused("\"hidden_size\": want a whole number"));
  EXPECT_THAT(OpenWith({{"num_hidden_layers", 0}}), Refused("\"num_hidden_layers\": want"));
  EXPECT_THAT(OpenWith({{"num_key_value_heads", 3}}), Refused("can't share 3 key/value heads"));
  EXPECT_THAT(OpenWith({{"head_dim", 15}}), Refused("head size 15 is odd"));
  EXPECT_THAT(OpenWith({{"attention_bias", 1}}), Refused("\"attention_bias\": want true or false"));
  EXPECT_THAT(OpenWith({{"rms_norm_eps", -1}}), Refused("norm epsilon -1"));
  EXPECT_THAT(OpenWith({{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 8.0}}}}),
              Refused("rope_parameters: \"low_freq_factor\" is missing"));
  EXPECT_THAT(OpenWith({{"rope_parameters", {{"rope_theta", 0}}}}), Refused("\"rope_theta\""));
  Write("generation_config.json", R"({"eos_token_id": [2, 320]})");
  EXPECT_THAT(Open(), Refused("end-of-text token 320 is outside the vocabulary of 320"));
  Write("config.json", "{\"architectures\": [");
  EXPECT_THAT(Open(), Refused("config.json: not valid JSON"));
  Write("config.json", std::string(1000, '['));
  EXPECT_THAT(Open(), Refused("nested deeper"));
}

TEST_F(ModelFilesTest, NamesTheTensorWhoseShapeIsWrong) {
  EXPECT_THAT(OpenWith({{"intermediate_size", 100}}),
              Refused("tensor \"model.layers.0.mlp.gate_proj.weight\": want [100, 64], file has "
                      "[96, 64]"));
  EXPECT_THAT(OpenWith({{"vocab_size", 319}}),
              Refused("\"model.embed_tokens.weight\": want [319, 64], file has [320, 64]"));
}

TEST_F(ModelFilesTest, NamesTensorsThatAreMissingOrTooMany) {
  EXPECT_THAT(OpenWith({{"mlp_bias", true}}),
              Refused("the file lacks tensors: model.layers.0.mlp.down_proj.bias, "));
  EXPECT_THAT(OpenWith({{"num_hidden_layers", 1}}),
              AllOf(Refused("LlamaForCausalLM with this configuration does not use: "
                            "model.layers.1.input_layernorm.weight, "),
                    Refused(" and 1 more")));
  CopyOf("biases");
  EXPECT_THAT(OpenWith({{"attention_bias", false}}), Refused("self_attn.k_proj.bias"));
}

TEST_F(ModelFilesTest, TiedHeadsAreTheEmbeddingEvenWhereTheFileHasAnother) {
  EXPECT_THAT(OpenWith({{"tie_word_embeddings", true}}), IsOk());
  CopyOf("tied");
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(folder_));
  ASSERT_OK_AND_ASSIGN(const WeightView head, files->Weight("lm_head"));
  EXPECT_EQ(head.name, "model.embed_tokens.weight");
  EXPECT_THAT(OpenWith({{"tie_word_embeddings", false}}), Refused("lacks tensors: lm_head.weight"));
}

TEST_F(ModelFilesTest, RefusesATokenizerWithMoreTokensThanRows) {
  json tokenizer = Read("tokenizer.json");
  tokenizer["added_tokens"][0]["id"] = 320;
  Write("tokenizer.json", tokenizer.dump());
  EXPECT_THAT(Open(), Refused("the tokenizer has 321 tokens and the model's embedding 320 rows"));
  tokenizer["added_tokens"][0]["id"] = 319;
  tokenizer["model"]["vocab"]["zz"] = uint64_t{1} << 60;
  Write("tokenizer.json", tokenizer.dump());
  EXPECT_THAT(Open(), Refused("rows: they do not belong together"));
  Write("tokenizer.json", R"({"model": {"type": "Unigram", "vocab": [["a", -1.5], ["b", -2]]}})");
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(folder_));
  EXPECT_EQ(files->assets().tokenizer_size, 2);
  Write("tokenizer.json", "[]");
  EXPECT_THAT(Open(), Refused("tokenizer.json: not a JSON object"));
}

TEST_F(ModelFilesTest, ReadsTheSpellingOfOlderConfigurations) {
  CopyOf("llama3");
  json config = Read("config.json");
  json rope = config["rope_parameters"];
  config.erase("rope_parameters");
  config["rope_theta"] = 12345.0;
  rope.erase("rope_theta");
  rope["type"] = rope["rope_type"];
  rope.erase("rope_type");
  config["rope_scaling"] = rope;
  config["eos_token_id"] = {2, 3};
  config["pad_token_id"] = -1;
  Write("config.json", config.dump());
  Write("generation_config.json", "{}");
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(folder_));
  EXPECT_EQ(files->spec().rope.theta, 12345.0);
  EXPECT_EQ(files->spec().rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(files->spec().rope.factor, 8.0);
  EXPECT_EQ(files->spec().rope.original_context, 32);
  EXPECT_THAT(files->spec().eos_ids, ElementsAre(2, 3));
  EXPECT_EQ(files->spec().pad_id, -1);
}

TEST_F(ModelFilesTest, DigestFollowsTheWeightsAndTheSpecOnly) {
  const auto digest = [&](int threads = 2) {
    const auto files = ModelFiles::Open(folder_);
    return files.ok() ? (*files)->WeightsDigest({.threads = threads}) : "";
  };
  const std::string before = digest();
  EXPECT_EQ(before.size(), 64);
  EXPECT_EQ(digest(1), before);
  Write("tokenizer_config.json", "{}");
  EXPECT_EQ(digest(), before);
  json config = Read("config.json");
  config["rms_norm_eps"] = 2e-5;
  Write("config.json", config.dump());
  const std::string other_spec = digest();
  EXPECT_NE(other_spec, before);
  std::fstream weights(PathOf("model.safetensors"), std::ios::in | std::ios::out);
  weights.seekp(-1, std::ios::end);
  weights.put('\x3e');
  weights.close();
  EXPECT_NE(digest(), other_spec);
}

TEST_F(ModelFilesTest, DigestIsRememberedUntilTheFileChanges) {
  const WeightsDigestOptions options = {.cache_folder = PathOf("digests")};
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(folder_));
  const std::string first = files->WeightsDigest(options);
  std::filesystem::directory_iterator kept(options.cache_folder);
  const std::string entry = kept->path().string();
  std::ofstream(entry) << std::string(64, '0');  // a memory that shows that it is used
  const std::string remembered = files->WeightsDigest(options);
  EXPECT_NE(remembered, first);
  EXPECT_EQ(files->WeightsDigest(options), remembered);
  std::ofstream(entry) << "short";
  EXPECT_EQ(files->WeightsDigest(options), first);
  std::ofstream(entry) << std::string(64, '0');
  std::filesystem::last_write_time(
      PathOf("model.safetensors"),
      std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  ASSERT_OK_AND_ASSIGN(const auto touched, ModelFiles::Open(folder_));
  EXPECT_EQ(touched->WeightsDigest(options), first);
}

TEST(GgufModel, UndoesTheOrderOfQueryAndKeyRows) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden("gguf_f32"));
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(golden.model));
  EXPECT_EQ(files->format(), ModelFormat::kGguf);
  ASSERT_OK_AND_ASSIGN(const WeightView q, files->Weight("q", 0));
  ASSERT_EQ(q.row_order.size(), 64);
  EXPECT_EQ(q.row_order[0], 0);
  EXPECT_EQ(q.row_order[1], 2);  // heads of 16: the first half lies on even rows,
  EXPECT_EQ(q.row_order[8], 1);  // the second on odd ones
  EXPECT_EQ(q.row_order[16], 16);
  ASSERT_OK_AND_ASSIGN(const WeightView bias, files->Weight("q_bias", 0));
  EXPECT_EQ(bias.rows, 1);
  EXPECT_TRUE(bias.row_order.empty());  // reordered already
  EXPECT_NE(files->assets().Find("special_tokens.json"), nullptr);
}

TEST(GgufModel, ErrorsBeginWithThePath) {
  const std::string path = absl::StrCat(testing::TempDir(), "/not_a_model.gguf");
  for (const std::string text : {"", "GGU", "a host's name"}) {
    std::ofstream(path) << text;
    const auto files = ModelFiles::Open(path);
    EXPECT_THAT(files, Refused("not_a_model.gguf: neither a GGUF file")) << text;
    EXPECT_THAT(files, Refused("nor a Hugging Face model folder")) << text;
  }
}

}  // namespace
}  // namespace tandem
