#include "text/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"

namespace tandem {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

using Kind = GrammarSource::Kind;

// A grammar over one of the tiny tokenizers, fed and asked in text.
class Follower {
 public:
  Follower(const std::string& tokenizer_json, GrammarSource source, int padding = 0)
      : tokenizer_(MustLoad(tokenizer_json)), logits_(tokenizer_->vocab_size() + padding) {
    const auto environment = GrammarEnvironment::Create(*tokenizer_, logits_);
    EXPECT_THAT(environment, IsOk());
    const auto grammar = (*environment)->Compile(source);
    EXPECT_THAT(grammar, IsOk()) << source.text;
    matcher_ = *GrammarMatcher::Create(*grammar);
  }

  // The ids that may come next, and kEnd where the sentence may end.
  static constexpr int32_t kEnd = -1;
  std::set<int32_t> NextIds() {
    std::vector<uint32_t> mask(matcher_->mask_words(), 0xdeadbeef);
    const absl::StatusOr<bool> may_end = matcher_->ComputeMask(absl::MakeSpan(mask));
    EXPECT_THAT(may_end, IsOk());
    std::set<int32_t> ids;
    for (size_t id = 0; id < mask.size() * 32; ++id) {
      if (mask[id / 32] >> (id % 32) & 1) ids.insert(static_cast<int32_t>(id));
    }
    if (may_end.ok() && *may_end) ids.insert(kEnd);
    return ids;
  }
  // The same as text, "$" for the end.
  std::set<std::string> Next() {
    std::set<std::string> texts;
    for (const int32_t id : NextIds()) {
      texts.insert(id == kEnd ? "$" : std::string(tokenizer_->IdToBytes(id)));
    }
    return texts;
  }
  // One byte a token. Whether the last of them finished the sentence.
  bool Feed(absl::string_view text) {
    bool finished = false;
    for (const char c : text) finished = *matcher_->Consume({IdOf(c)});
    return finished;
  }
  int32_t IdOf(char c) const {
    int32_t id = 0;
    while (tokenizer_->IdToBytes(id) != absl::string_view(&c, 1)) ++id;
    return id;
  }

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  GrammarMatcher& matcher() { return *matcher_; }
  void set_matcher(std::unique_ptr<GrammarMatcher> matcher) { matcher_ = std::move(matcher); }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  const int32_t logits_;
  std::unique_ptr<GrammarMatcher> matcher_;
};

absl::Status CompileError(const GrammarSource& source) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  return (*GrammarEnvironment::Create(*tokenizer, tokenizer->vocab_size()))
      ->Compile(source)
      .status();
}

TEST(Grammar, AChoiceAllowsExactlyItsStringsInAnySpelling) {
  Follower f(ByteLevelJson(), {Kind::kChoice, "", {"hello", "hell", "hi/*", "ä"}});
  EXPECT_THAT(f.Next(), UnorderedElementsAre("h", "he", "hell", "hello", "\xC3"));
  f.Feed("he");
  EXPECT_THAT(f.Next(), UnorderedElementsAre("l", "ll"));
  f.Feed("ll");
  EXPECT_THAT(f.Next(), UnorderedElementsAre("o", "$"));
  EXPECT_TRUE(f.Feed("o"));
  EXPECT_THAT(f.Next(), UnorderedElementsAre("$"));
}

TEST(Grammar, AChoiceIsNoPattern) {
  Follower f(ByteLevelJson(), {Kind::kChoice, "", {"(a|b)*", "\\d"}});
  EXPECT_THAT(f.Next(), UnorderedElementsAre("(", "\\"));
  EXPECT_TRUE(f.Feed("(a|b)*"));
}

TEST(Grammar, ARegexMatchesTheWholeOutput) {
  Follower f(ByteLevelJson(), {Kind::kRegex, "a{2,3}|/[0-9]", {}});
  EXPECT_THAT(f.Next(), UnorderedElementsAre("a", "/"));
  f.Feed("a");
  EXPECT_THAT(f.Next(), UnorderedElementsAre("a"));
  EXPECT_FALSE(f.Feed("a"));
  EXPECT_THAT(f.Next(), UnorderedElementsAre("a", "$"));
  EXPECT_TRUE(f.Feed("a"));
}

TEST(Grammar, ALarkGrammarRecurses) {
  Follower f(ByteLevelJson(), {Kind::kLark, "start: \"(\" start \")\" | \"h\" \"i\"?", {}});
  EXPECT_THAT(f.Next(), UnorderedElementsAre("(", "h"));
  f.Feed("((h");
  EXPECT_THAT(f.Next(), UnorderedElementsAre("i", ")"));
  EXPECT_FALSE(f.Feed(")"));
  EXPECT_TRUE(f.Feed(")"));
}

TEST(Grammar, ASchemaAllowsWhatValidates) {
  Follower f(ByteLevelJson(), {Kind::kJsonSchema,
                               R"({"type": "object", "properties": {"n": {"enum": [1, "x", null]}},
                                   "required": ["n"], "additionalProperties": false,
                                   "x-guidance": {"whitespace_flexible": false}})",
                               {}});
  f.Feed(R"({"n":)");
  EXPECT_THAT(f.Next(), UnorderedElementsAre("1", "\"", "n"));
  EXPECT_TRUE(f.Feed("null}"));
}

TEST(Grammar, BytesOfACharacterAreLedThroughOneByOne) {
  for (const std::string& tokenizer : {ByteLevelJson(), ByteFallbackJson()}) {
    const auto loaded = MustLoad(tokenizer);
    Follower f(tokenizer, {Kind::kRegex, "é|ê", {}});
    EXPECT_THAT(f.Next(), UnorderedElementsAre("\xC3"));
    const std::set<int32_t> first = f.NextIds();
    ASSERT_THAT(f.matcher().Consume({*first.begin()}), IsOkAndHolds(false));
    EXPECT_THAT(f.Next(), UnorderedElementsAre("\xA9", "\xAA"));
  }
}

TEST(Grammar, ABlankIsABlankWhereTokenizersWriteItOtherwise) {
  Follower f(ByteFallbackJson(), {Kind::kRegex, " hi", {}});
  EXPECT_THAT(f.Next(), UnorderedElementsAre(" ", " hi"));
  Follower unigram(UnigramJson(), {Kind::kRegex, " ab", {}});
  EXPECT_THAT(unigram.Next(), UnorderedElementsAre(" "));
}

// Whatever the grammar says, a control token never stands in a sentence: its text is spelt out.
TEST(Grammar, ControlTokensAndWhatLooksLikeOneAreNeverAllowed) {
  for (const std::string& tokenizer : {ByteLevelJson(), ByteFallbackJson(), UnigramJson()}) {
    for (const GrammarSource& source :
         {GrammarSource{Kind::kRegex, "(?s:.*)", {}},
          GrammarSource{Kind::kChoice, "", {"</s>", "<s>", "<|im_end|>", "<think>"}},
          GrammarSource{Kind::kLark, "start: <[*]>", {}},
          GrammarSource{Kind::kLark, "start: <[0-5]>*", {}}}) {
      Follower f(tokenizer, source, /*padding=*/40);
      const std::set<int32_t> ids = f.NextIds();
      EXPECT_FALSE(ids.empty());
      for (const int32_t id : ids) {
        if (id == Follower::kEnd) continue;
        EXPECT_THAT(f.tokenizer().Kind(id), AnyOf(TokenKind::kNormal, TokenKind::kAdded)) << id;
        EXPECT_FALSE(absl::EndsWith(f.tokenizer().IdToBytes(id), "think>")) << source.text;
      }
    }
  }
}

TEST(Grammar, AddedTokensThatArePlainTextMayBeUsed) {
  Follower f(ByteLevelJson(), {Kind::kRegex, " *", {}});
  EXPECT_THAT(f.Next(), UnorderedElementsAre(" ", "    ", "$"));
}

TEST(Grammar, PaddingOfTheLogitsIsNeverAllowed) {
  for (const int padding : {0, 1, 31, 32, 100}) {
    Follower f(ByteLevelJson(), {Kind::kRegex, "(?s:.*)", {}}, padding);
    for (const int32_t id : f.NextIds()) EXPECT_LT(id, f.tokenizer().vocab_size());
  }
}

TEST(Grammar, FewerLogitsThanTokensIsFine) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(const auto environment, GrammarEnvironment::Create(*tokenizer, 100));
  ASSERT_OK_AND_ASSIGN(const auto grammar, environment->Compile({Kind::kRegex, "[a-zé]+", {}}));
  ASSERT_OK_AND_ASSIGN(const auto matcher, GrammarMatcher::Create(grammar));
  EXPECT_EQ(matcher->mask_words(), 4u);
  std::vector<uint32_t> mask(4);
  EXPECT_THAT(matcher->ComputeMask(absl::MakeSpan(mask)), IsOkAndHolds(false));
}

// What is wrong is told in llguidance's words, for every kind.
TEST(Grammar, AWrongGrammarIsRefusedWithTheReason) {
  const struct {
    GrammarSource source;
    std::string reason;
  } cases[] = {
      {{Kind::kJsonSchema, "{", {}}, "not JSON"},
      {{Kind::kJsonSchema, R"({"type": "elephant"})", {}}, "elephant"},
      {{Kind::kJsonSchema, R"({"type": "string", "contentEncoding": "x", "not": {}})", {}}, "not"},
      {{Kind::kJsonSchema, R"({"$ref": "https://example.com/schema.json"})", {}}, "example.com"},
      {{Kind::kJsonSchema, R"({"type": "integer", "minimum": 5, "maximum": 3})", {}}, "minimum"},
      {{Kind::kRegex, "a(", {}}, "unclosed group"},
      {{Kind::kRegex, "(?=a)", {}}, "look-around"},
      {{Kind::kLark, "start: missing", {}}, "missing"},
      {{Kind::kLark, "no rules here", {}}, "Expected"},
      {{Kind::kLark, "start: <|im_start|>", {}}, "unknown special token"},
      {{Kind::kChoice, "", {}}, "nothing to choose"},
  };
  for (const auto& one : cases) {
    EXPECT_THAT(CompileError(one.source),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(one.reason)))
        << one.source.text;
  }
}

// Each of these would take the machine's memory or hours without a limit.
TEST(Grammar, WhatIsTooDearIsRefusedOrEnds) {
  std::string deep_lark = "start: ", deep_regex, chain = R"({"$ref": "#/$defs/a0", "$defs": {)";
  for (int i = 0; i < 20000; ++i) deep_lark += "(", deep_regex += "(";
  deep_lark += "\"a\"";
  for (int i = 0; i < 20000; ++i) deep_lark += ")", deep_regex += ")";
  for (int i = 0; i < 10000; ++i) {
    chain += absl::StrCat("\"a", i, R"(": {"items": {"$ref": "#/$defs/a)", i + 1, "\"}},");
  }
  chain += R"("a10000": {"type": "null"}}})";
  std::string deep_json;
  for (int i = 0; i < 5000; ++i) deep_json += R"({"items":)";
  const GrammarSource sources[] = {
      {Kind::kRegex, "((((a{1,1000}){1,1000}){1,1000}){1,1000})", {}},
      {Kind::kRegex, deep_regex, {}},
      {Kind::kLark, deep_lark, {}},
      {Kind::kLark, "start: a~1..1000000000\na: b~1..1000000000\nb: \"x\"", {}},
      {Kind::kJsonSchema, chain, {}},
      {Kind::kJsonSchema, deep_json, {}},
      {Kind::kJsonSchema, R"({"type": "array", "minItems": 100000000})", {}},
      {Kind::kJsonSchema, R"({"type": "string", "minLength": 4000000000})", {}},
      {Kind::kJsonSchema, R"({"$ref": "#"})", {}},
      {Kind::kJsonSchema, R"({"allOf": [{"$ref": "#"}, {"$ref": "#"}]})", {}},
      {Kind::kJsonSchema, std::string(GrammarEnvironment::kMaxSourceBytes + 1, ' '), {}},
  };
  for (const GrammarSource& source : sources) {
    const absl::Status status = CompileError(source);
    if (!status.ok()) {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument))
          << source.text.substr(0, 100);
      EXPECT_LT(status.message().size(), 1000u) << "what it quotes is cut";
      EXPECT_THAT(std::string(status.message()), Not(HasSubstr("non-verbose")));
    }
  }
}

TEST(Grammar, ATokenThatIsNotAllowedIsRefused) {
  for (const std::string text : {"b", "<s>"}) {
    Follower f(ByteLevelJson(), {Kind::kRegex, "a+", {}});
    f.Feed("a");
    EXPECT_THAT(f.matcher().Consume({*f.tokenizer().TokenToId(text)}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the grammar")));
  }
  Follower f(ByteLevelJson(), {Kind::kRegex, "a", {}});
  EXPECT_THAT(f.matcher().Consume({-1}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_TRUE(f.Feed("a"));
  EXPECT_THAT(f.matcher().Consume({*f.tokenizer().TokenToId("a")}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Grammar, AStateThatNoTokenLeavesIsAnError) {
  Follower f(UnigramJson(), {Kind::kRegex, "az", {}});
  f.Feed("a");
  std::vector<uint32_t> mask(f.matcher().mask_words());
  EXPECT_THAT(f.matcher().ComputeMask(absl::MakeSpan(mask)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no token")));
}

TEST(Grammar, AMaskOfAnotherSizeIsRefused) {
  Follower f(ByteLevelJson(), {Kind::kRegex, "a", {}});
  std::vector<uint32_t> mask(f.matcher().mask_words() + 1);
  EXPECT_THAT(f.matcher().ComputeMask(absl::MakeSpan(mask)), Not(IsOk()));
  EXPECT_THAT(f.matcher().ComputeMask({}), Not(IsOk()));
}

constexpr char kPeople[] = R"({"type": "array", "items": {"$ref": "#/$defs/p"}, "$defs": {"p": {
    "type": "object", "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"},
    "age": {"type": "integer", "minimum": 0, "maximum": 150}, "kids": {"$ref": "#"}},
    "required": ["name"], "additionalProperties": false}}})";
constexpr char kSentence[] = R"([{"name": "ann", "age": 41, "kids": [{"name":"bo"}] }])";

// The state depends on what was consumed, not on how it came about or what else was asked.
TEST(Grammar, AForkAndAMatcherThatStartsOverGoOnAsTheFirstWould) {
  const GrammarSource source = {Kind::kJsonSchema, kPeople, {}};
  Follower asked(ByteLevelJson(), source), whole(ByteLevelJson(), source);
  std::string so_far;
  for (const char c : std::string(kSentence)) {
    const std::set<int32_t> next = asked.NextIds();
    EXPECT_EQ(next, asked.NextIds()) << "asking changes nothing";
    Follower again(ByteLevelJson(), source);
    again.Feed(so_far);
    EXPECT_EQ(next, again.NextIds()) << so_far;
    ASSERT_OK_AND_ASSIGN(auto fork, asked.matcher().Fork());
    asked.Feed({&c, 1});
    std::vector<uint32_t> mask(fork->mask_words());
    ASSERT_THAT(fork->ComputeMask(absl::MakeSpan(mask)), IsOk());
    for (const int32_t id : next) {
      if (id == Follower::kEnd) continue;
      EXPECT_TRUE(mask[id / 32] >> (id % 32) & 1) << so_far;
    }
    so_far += c;
  }
  EXPECT_TRUE(asked.NextIds().contains(Follower::kEnd));
}

// Every token of the mask can be consumed, and no other: the whole vocabulary, at every position.
TEST(Grammar, AMaskIsExactlyWhatCanBeConsumed) {
  Follower f(ByteLevelJson(), {Kind::kJsonSchema, kPeople, {}});
  for (const char c : std::string(kSentence)) {
    const std::set<int32_t> next = f.NextIds();
    for (int32_t id = 0; id < f.tokenizer().vocab_size(); ++id) {
      ASSERT_OK_AND_ASSIGN(const auto fork, f.matcher().Fork());
      EXPECT_EQ(fork->Consume({id}).ok(), next.contains(id)) << id;
    }
    f.Feed({&c, 1});
  }
}

}  // namespace
}  // namespace tandem
