#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/chat_template.h"

// Text of a caller never becomes a token that steers the model.
namespace tandem {
namespace {

using nlohmann::ordered_json;
using ::testing::Contains;
using ::testing::Not;

constexpr char kChatMl[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// <unk> is left out: it also stands for what a vocabulary can't spell.
std::vector<std::string> Controls(const Tokenizer& tokenizer) {
  std::vector<std::string> controls;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string bytes(tokenizer.IdToBytes(id));
    const bool shaped = bytes.size() > 2 && bytes.front() == '<' && bytes.back() == '>';
    const bool added = tokenizer.Kind(id) == TokenKind::kAdded;
    if (bytes == "<unk>") continue;
    if (tokenizer.IsSpecial(id) || (added && shaped)) controls.push_back(bytes);
  }
  return controls;
}

int CountControls(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const std::vector<std::string> controls = Controls(tokenizer);
  return std::count_if(ids.begin(), ids.end(), [&](int32_t id) {
    return tokenizer.Kind(id) != TokenKind::kNormal &&
           std::count(controls.begin(), controls.end(), std::string(tokenizer.IdToBytes(id))) > 0;
  });
}

class Lookalike : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    tokenizer_ = MustLoad(GetParam());
    ASSERT_OK_AND_ASSIGN(template_, ChatTemplate::Compile(kChatMl));
  }

  RenderedPrompt Render(const ordered_json& messages) {
    ChatRequest request;
    request.messages_json = messages.dump();
    absl::StatusOr<RenderedPrompt> prompt = template_->Render(request, *tokenizer_);
    EXPECT_THAT(prompt, IsOk());
    return prompt.value_or(RenderedPrompt{});
  }

  std::vector<int32_t> EncodePrompt(const RenderedPrompt& prompt) {
    absl::StatusOr<std::vector<int32_t>> ids = tokenizer_->EncodePrompt(prompt);
    EXPECT_THAT(ids, IsOk());
    return ids.value_or(std::vector<int32_t>{});
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const ChatTemplate> template_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, Lookalike,
                         ::testing::Values(ByteLevelJson(), ByteFallbackJson(), UnigramJson()));

TEST_P(Lookalike, EveryControlInPlainTextIsSpeltOut) {
  for (const std::string& control : Controls(*tokenizer_)) {
    for (const std::string& text : {control, "a" + control + "b", control + control}) {
      ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer_->Encode(text, {}));
      EXPECT_EQ(CountControls(*tokenizer_, ids), 0) << text;
    }
  }
}

TEST_P(Lookalike, EveryControlInAUsersMessageIsSpeltOutAndReadsTheSame) {
  const int of_template =
      CountControls(*tokenizer_, EncodePrompt(Render({{{"role", "user"}, {"content", "x"}}})));
  for (const std::string& control : Controls(*tokenizer_)) {
    const RenderedPrompt prompt =
        Render({{{"role", "user"}, {"content", "a " + control + "b" + control}}});
    EXPECT_THAT(prompt.text, ::testing::HasSubstr("a " + control + "b" + control));
    EXPECT_EQ(CountControls(*tokenizer_, EncodePrompt(prompt)), of_template) << control;
  }
}

TEST_P(Lookalike, RandomMixesNeverGainAControlToken) {
  std::mt19937 random(3);
  std::vector<std::string> alphabet = {" ", "a", "<", ">", "|", "\n", "\u00e9", "\uFDD0"};
  for (const std::string& control : Controls(*tokenizer_)) {
    alphabet.push_back(control);
    alphabet.push_back(control.substr(0, control.size() / 2));
    alphabet.push_back(control.substr(control.size() / 2));
  }
  const int of_template =
      CountControls(*tokenizer_, EncodePrompt(Render({{{"role", "user"}, {"content", "x"}}})));
  for (int round = 0; round < 1000; ++round) {
    const std::string content = RandomText(random, alphabet, 6);
    const RenderedPrompt prompt = Render({{{"role", "user"}, {"content", content}}});
    ASSERT_THAT(prompt.text, ::testing::HasSubstr(content));
    ASSERT_EQ(CountControls(*tokenizer_, EncodePrompt(prompt)), of_template) << content;
  }
}

TEST(LookalikeInParts, AControlCutInTwoByTheCallerStaysText) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(const auto joined,
                       ChatTemplate::Compile("{% for part in messages[0].content %}"
                                             "{{ part.text }}{% endfor %}"));
  const std::string control = "<|im_end|>";
  for (size_t cut = 1; cut < control.size(); ++cut) {
    ChatRequest request;
    request.messages_json =
        ordered_json{
            {{"content", {{{"text", control.substr(0, cut)}}, {{"text", control.substr(cut)}}}}}}
            .dump();
    ASSERT_OK_AND_ASSIGN(const RenderedPrompt prompt, joined->Render(request, *tokenizer));
    EXPECT_EQ(prompt.text, control);
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer->EncodePrompt(prompt));
    EXPECT_EQ(CountControls(*tokenizer, ids), 0);
  }
}

TEST(LookalikeInParts, ToolsArgumentsKeysAndVariablesAreCallersTextToo) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(
      const auto chat_template,
      ChatTemplate::Compile("{{ bos_token }}{{ tools | tojson }}{{ documents | tojson(indent=2) }}"
                            "{{ messages | tojson(ensure_ascii=true) }}{{ extra }}"));
  ChatRequest request;
  request.messages_json = R"([{"role": "tool", "content": "<|im_end|>"}])";
  request.tools_json = R"([{"<|im_start|>": {"<|im_end|>": ["<s>"]}}])";
  request.documents_json = R"(["<think>"])";
  request.variables_json = R"({"extra": "<s>"})";
  request.special_tokens = {{"bos_token", "<s>"}};
  ASSERT_OK_AND_ASSIGN(const RenderedPrompt prompt, chat_template->Render(request, *tokenizer));
  EXPECT_EQ(prompt.text,
            "<s>[{\"<|im_start|>\": {\"<|im_end|>\": [\"<s>\"]}}][\n  \"<think>\"\n]"
            "[{\"role\": \"tool\", \"content\": \"<|im_end|>\"}]<s>");
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer->EncodePrompt(prompt));
  EXPECT_EQ(CountControls(*tokenizer, ids), 1) << "the template's own <s>";
  EXPECT_EQ(ids.front(), *tokenizer->TokenToId("<s>"));
}

TEST(LookalikeInParts, WhatAModelWroteKeepsItsThinkingTokensButNoSpecialOnes) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(const auto chat_template,
                       ChatTemplate::Compile("{{ messages[0].content }}"));
  ChatRequest request;
  request.messages_json = R"([{"role": "assistant", "content": "<think>a</think>b<|im_end|>"}])";
  ASSERT_OK_AND_ASSIGN(const RenderedPrompt prompt, chat_template->Render(request, *tokenizer));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer->EncodePrompt(prompt));
  EXPECT_THAT(ids, Contains(*tokenizer->TokenToId("<think>")));
  EXPECT_THAT(ids, Contains(*tokenizer->TokenToId("</think>")));
  EXPECT_THAT(ids, Not(Contains(*tokenizer->TokenToId("<|im_end|>"))));
}

TEST(LookalikeInParts, PlainAddedTokensStayTokens) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer->Encode("a    b", {}));
  EXPECT_THAT(ids, Contains(*tokenizer->TokenToId("    ")));
}

}  // namespace
}  // namespace tandem
