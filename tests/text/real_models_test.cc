#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/block_hash.h"
#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/chat_template.h"
#include "worker/model/mapped_file.h"

// The tokenizers and chat templates of real models, against what Python's `tokenizers` and
// transformers make of the same cases (tests/golden/text.py). Their files are in the cache folder
// where tests/golden/fetch_text.py could get them; a model whose files are not there is skipped.
namespace tandem {
namespace {

using json = nlohmann::ordered_json;  // templates print members in their order

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

json Golden(const std::string& name) {
  const std::string path = absl::StrCat(TANDEM_SOURCE_DIR, "/tests/golden/text/", name, ".json");
  return json::parse(Read(path), nullptr, /*allow_exceptions=*/false);
}

// FNV-1a over the ids as little-endian int32.
uint32_t Fingerprint(const std::vector<int32_t>& ids) {
  uint32_t value = 2166136261;
  for (const int32_t id : ids) {
    for (int byte = 0; byte < 4; ++byte) value = (value ^ (id >> 8 * byte & 255)) * 16777619;
  }
  return value;
}

// text.py's random texts, by the same generator.
std::vector<std::string> RandomTexts(const json& cases) {
  uint64_t state = 2026;
  const auto draw = [&state](size_t limit) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return (state >> 33) % limit;
  };
  const json& pieces = cases["pieces"];
  std::vector<std::string> texts(cases["random_texts"].get<size_t>());
  for (std::string& text : texts) {
    for (size_t left = 1 + draw(cases["pieces_max"].get<size_t>()); left > 0; --left) {
      text += pieces[draw(pieces.size())].get<std::string>();
    }
  }
  return texts;
}

ChatRequest RequestOf(const json& context, const json& cases, const json& tokens) {
  ChatRequest request;
  request.messages_json = context["messages"].dump();
  if (context.contains("tools")) request.tools_json = context["tools"].dump();
  if (context.contains("variables")) request.variables_json = context["variables"].dump();
  request.add_generation_prompt = context.value("add_generation_prompt", true);
  request.now = absl::FromUnixSeconds(cases["now"].get<int64_t>());
  for (const auto& [name, token] : tokens.items()) request.special_tokens[name] = token;
  return request;
}

class RealModel : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string folder = absl::StrCat(CacheFolder(), "/text/", GetParam());
    if (!std::filesystem::exists(folder)) {
      GTEST_SKIP() << folder << " is not there: run tests/golden/fetch_text.py";
    }
    cases_ = Golden("cases");
    want_ = Golden(GetParam());
    ASSERT_TRUE(cases_.is_object() && want_.is_object());
    tokenizer_ = TokenizerOf(folder + "/tokenizer.json");
    ASSERT_TRUE(tokenizer_ != nullptr);
    ASSERT_OK_AND_ASSIGN(template_, ChatTemplate::Compile(Read(folder + "/chat_template.jinja")));
  }

  static void TearDownTestSuite() { loaded_.clear(); }

  // Loaded once, since it takes seconds where sanitizers watch, and some models share theirs.
  static std::shared_ptr<const Tokenizer> TokenizerOf(const std::string& path) {
    const std::string text = Read(path);
    std::shared_ptr<const Tokenizer>& tokenizer = loaded_[Sha256Hex(text)];
    if (tokenizer == nullptr) tokenizer = MustLoad(text);
    return tokenizer;
  }

  std::vector<int32_t> Encode(absl::string_view text, bool add_special = false) {
    const auto ids = tokenizer_->Encode(text, {.add_special = add_special, .parse_special = true});
    EXPECT_THAT(ids, IsOk());
    return ids.value_or(std::vector<int32_t>{});
  }

  inline static std::map<std::string, std::shared_ptr<const Tokenizer>> loaded_;  // by digest
  json cases_, want_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatTemplate> template_;
};

TEST_P(RealModel, EncodesAndDecodesEveryTextAsPythonDoes) {
  EXPECT_EQ(tokenizer_->vocab_size(), want_["vocab"].get<int32_t>());
  EXPECT_EQ(Encode("Hello", true), want_["with_special"].get<std::vector<int32_t>>());
  for (size_t i = 0; i < cases_["texts"].size(); ++i) {
    const std::string text = cases_["texts"][i];
    const std::vector<int32_t> ids = want_["texts"][i];
    EXPECT_EQ(Encode(text), ids) << text;
    const std::string decoded = want_["decoded"].value(absl::StrCat(i), text);
    EXPECT_THAT(tokenizer_->Decode(ids, {.skip_special = false}), IsOkAndHolds(decoded));
  }
}

TEST_P(RealModel, EncodesRandomMixturesAsPythonDoes) {
  const std::vector<std::string> texts = RandomTexts(cases_);
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSERT_EQ(Fingerprint(Encode(texts[i])), want_["random"][i].get<uint32_t>()) << texts[i];
  }
}

TEST_P(RealModel, ReadsEveryAddedTokenAsPythonDoes) {
  std::string text;
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    const TokenKind kind = tokenizer_->Kind(id);
    if (kind != TokenKind::kAdded && kind != TokenKind::kSpecial) continue;
    absl::StrAppend(&text, " a", tokenizer_->IdToBytes(id), "b");
  }
  EXPECT_EQ(Fingerprint(Encode(text)), want_["added"].get<uint32_t>());
}

// On a difference, tests/golden/text.py's show(model, context) gives the text that is wanted.
TEST_P(RealModel, RendersEveryChatAsTransformersDoes) {
  for (size_t i = 0; i < cases_["contexts"].size(); ++i) {
    const json& context = cases_["contexts"][i];
    const json& want = want_["renders"][i];
    SCOPED_TRACE(context["name"].get<std::string>());
    const auto prompt = template_->Render(RequestOf(context, cases_, want_["tokens"]), *tokenizer_);
    if (want.contains("error")) {
      EXPECT_THAT(prompt, StatusIs(absl::StatusCode::kInvalidArgument, testing::_));
      continue;
    }
    ASSERT_THAT(prompt, IsOk());
    EXPECT_EQ(Sha256Hex(prompt->text), want["sha256"].get<std::string>()) << prompt->text;
    EXPECT_EQ(Fingerprint(Encode(prompt->text)), want["ids"].get<uint32_t>());
    // No caller's text here looks like a special token, but where a template's reader splits it.
    if (prompt->barriers.empty()) {
      ASSERT_OK_AND_ASSIGN(const auto ids, tokenizer_->EncodePrompt(*prompt));
      EXPECT_EQ(Fingerprint(ids), want["ids"].get<uint32_t>());
    }
  }
}

// Whatever a user writes: a template's tokens are those of the template.
TEST_P(RealModel, EveryAddedTokenOfAUserIsSpeltOut) {
  const auto added_in = [&](const std::string& content) -> int64_t {
    const json context = {{"messages", {{{"role", "user"}, {"content", content}}}}};
    const auto prompt = template_->Render(RequestOf(context, cases_, want_["tokens"]), *tokenizer_);
    if (!prompt.ok()) return -1;
    const std::vector<int32_t> ids = *tokenizer_->EncodePrompt(*prompt);
    return std::count_if(ids.begin(), ids.end(),
                         [&](int32_t id) { return tokenizer_->Kind(id) != TokenKind::kNormal; });
  };
  const int64_t of_template = added_in("x");
  EXPECT_GT(of_template, 0);
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    const TokenKind kind = tokenizer_->Kind(id);
    if (kind != TokenKind::kAdded && kind != TokenKind::kSpecial) continue;
    const std::string token(tokenizer_->IdToBytes(id));
    EXPECT_EQ(added_in("Say " + token + token + " twice."), of_template) << token;
  }
}

std::string NameOf(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, RealModel,
                         testing::Values("qwen2.5", "qwq", "qwen3", "r1-distill-llama",
                                         "deepseek-v3.1", "llama3", "gpt-oss"),
                         NameOf);

}  // namespace
}  // namespace tandem
