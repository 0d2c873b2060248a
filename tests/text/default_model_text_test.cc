#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/chat_template.h"
#include "text/detokenizer.h"
#include "worker/model/model_files.h"

// The tokenizer and the chat template of the default model, SmolLM2-135M-Instruct, out of its file.
namespace tandem {
namespace {

using ::testing::ElementsAreArray;

constexpr int32_t kEndOfTurn = 2;  // <|im_end|>

class DefaultModelText : public testing::Test {
 protected:
  static void SetUpTestSuite() {  // once: it takes a second
    const std::string path = CacheFolder() + "/SmolLM2-135M-Instruct.Q4_1.gguf";
    ASSERT_TRUE(std::filesystem::exists(path)) << path << " is not there: run deploy/setup";
    ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(path));
    const Asset* tokenizer = files->assets().Find("tokenizer.json");
    const Asset* chat = files->assets().Find("chat_template.jinja");
    ASSERT_TRUE(tokenizer != nullptr && chat != nullptr);
    tokenizer_ = MustLoad(tokenizer->data);
    ASSERT_OK_AND_ASSIGN(template_, ChatTemplate::Compile(chat->data));
  }
  static void TearDownTestSuite() {
    tokenizer_.reset();
    template_.reset();
  }
  void SetUp() override { ASSERT_TRUE(tokenizer_ != nullptr && template_ != nullptr); }

  RenderedPrompt Render(const std::string& content) {
    ChatRequest request;
    request.messages_json =
        nlohmann::json::array({{{"role", "user"}, {"content", content}}}).dump();
    absl::StatusOr<RenderedPrompt> prompt = template_->Render(request, *tokenizer_);
    EXPECT_THAT(prompt, IsOk());
    return prompt.value_or(RenderedPrompt{});
  }

  inline static std::shared_ptr<const Tokenizer> tokenizer_;
  inline static std::shared_ptr<const ChatTemplate> template_;
};

struct Known {
  std::string text;
  std::vector<int32_t> ids;
};

// By a plain implementation of byte-level BPE over the file's merges, written apart from this one.
TEST_F(DefaultModelText, EncodesAsThePlainAlgorithmDoes) {
  const std::vector<Known> known = {
      {"Hello world!", {19556, 905, 17}},
      {"The quick brown fox jumps over the lazy dog.",
       {504, 2365, 6354, 16438, 27003, 690, 260, 23790, 2767, 30}},
      {"I can't, you're, it's 12345.678 and 3rd",
       {57, 416, 982, 28, 346, 2316, 28, 357, 506, 216, 33,  34,
        35, 36,  37,  30, 38,  39,   40, 284, 216, 35,  7212}},
      {"  two  blanks\n\n\tand tabs  ", {216, 827, 216, 45843, 1116, 197, 397, 29416, 256}},
      {"def f(x):\n    return x ** 2  # code\n",
       {1604, 275, 24, 104, 727, 472, 1003, 1792, 1903, 216, 34, 216, 907, 2909, 198}},
      {"你好，世界", {18645, 250, 48392, 138, 12831, 7906, 240, 178, 239, 230}},
      {"Привет, мир!", {155, 249, 46879, 16464, 32547, 28, 41337, 7872, 9175, 17}},
      {"नमस्ते", {30658, 35090, 38770, 16525, 26293, 30581}},
      {"½ Ⅷ ² 42", {16738, 216, 173, 223, 117, 216, 19133, 216, 36, 34}},
      {"e\u0301 \u00e9", {85, 151, 219, 26411}},
  };
  EXPECT_EQ(tokenizer_->vocab_size(), 49152);
  for (const Known& k : known) {
    EXPECT_THAT(tokenizer_->Encode(k.text, {}), IsOkAndHolds(ElementsAreArray(k.ids))) << k.text;
    EXPECT_THAT(tokenizer_->Decode(k.ids, {}), IsOkAndHolds(k.text));
  }
}

TEST_F(DefaultModelText, RendersItsTemplate) {
  const RenderedPrompt prompt = Render("U1");
  EXPECT_EQ(prompt.text,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n");
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer_->EncodePrompt(prompt));
  EXPECT_EQ(std::count(ids.begin(), ids.end(), kEndOfTurn), 2);
  EXPECT_THAT(tokenizer_->Decode(ids, {.skip_special = false}), IsOkAndHolds(prompt.text));
}

TEST_F(DefaultModelText, EverySpecialTokenOfAUserIsSpeltOutAndReadsTheSame) {
  const auto specials_in = [&](const RenderedPrompt& prompt) {
    const std::vector<int32_t> ids = *tokenizer_->EncodePrompt(prompt);
    return std::count_if(ids.begin(), ids.end(),
                         [&](int32_t id) { return tokenizer_->Kind(id) != TokenKind::kNormal; });
  };
  const auto of_template = specials_in(Render("x"));
  int specials = 0;
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    if (tokenizer_->Kind(id) == TokenKind::kNormal) continue;
    ++specials;
    const std::string token(tokenizer_->IdToBytes(id));
    const RenderedPrompt prompt = Render("Say " + token + token + " twice.");
    EXPECT_EQ(specials_in(prompt), of_template) << token;
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer_->EncodePrompt(prompt));
    EXPECT_THAT(tokenizer_->Decode(ids, {.skip_special = false}), IsOkAndHolds(prompt.text));
  }
  EXPECT_EQ(specials, 17);
}

TEST_F(DefaultModelText, StreamedTextEqualsWholeTextForRandomIds) {
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids(random() % 40);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % tokenizer_->vocab_size());
    ASSERT_OK_AND_ASSIGN(Detokenizer detokenizer, Detokenizer::Create(*tokenizer_, {}));
    std::string streamed;
    for (const int32_t id : ids) streamed += *detokenizer.Push(id);
    streamed += *detokenizer.Finish();
    ASSERT_THAT(tokenizer_->Decode(ids, {}), IsOkAndHolds(streamed));
  }
}

}  // namespace
}  // namespace tandem
