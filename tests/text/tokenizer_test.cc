#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr EncodeOptions kPlain = {};
constexpr EncodeOptions kParse = {.parse_special = true};

TEST(Tokenizer, EncodesMergesBytesAndSpecials) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  const int32_t hello = *tokenizer->TokenToId("hello");
  const int32_t end = *tokenizer->TokenToId("<|im_end|>");
  EXPECT_THAT(tokenizer->Encode("hello<|im_end|>", kParse), IsOkAndHolds(ElementsAre(hello, end)));
  EXPECT_THAT(tokenizer->Encode("hello", {.add_special = true}),
              IsOkAndHolds(ElementsAre(*tokenizer->TokenToId("<s>"), hello)));
  EXPECT_THAT(tokenizer->Encode("", kPlain), IsOkAndHolds(ElementsAre()));
  EXPECT_EQ(tokenizer->TokenToId("no such token"), std::nullopt);
}

TEST(Tokenizer, VocabularyIsTheLargestIdPlusOneAndKnowsItsHoles) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  const int32_t last = *tokenizer->TokenToId("hole-before");
  EXPECT_EQ(tokenizer->vocab_size(), last + 1);
  EXPECT_EQ(tokenizer->Kind(last - 1), TokenKind::kHole);
  EXPECT_EQ(tokenizer->IdToBytes(last - 1), "");
  EXPECT_EQ(tokenizer->Kind(last + 1), TokenKind::kHole);
  EXPECT_EQ(tokenizer->Kind(-1), TokenKind::kHole);
  EXPECT_EQ(tokenizer->Kind(*tokenizer->TokenToId("<think>")), TokenKind::kAdded);
  EXPECT_TRUE(tokenizer->IsSpecial(*tokenizer->TokenToId("<|im_end|>")));
  EXPECT_EQ(tokenizer->Kind(*tokenizer->TokenToId("hello")), TokenKind::kNormal);
}

TEST(Tokenizer, GivesTheBytesOfATokenAndNotItsSpelling) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  EXPECT_EQ(tokenizer->IdToBytes(*tokenizer->TokenToId("\u0120w")), " w");
  for (int b = 0; b < 256; ++b) {
    EXPECT_EQ(tokenizer->IdToBytes(b), std::string(1, static_cast<char>(b)));
  }
  const auto fallback = MustLoad(ByteFallbackJson());
  EXPECT_EQ(fallback->IdToBytes(*fallback->TokenToId("<0xE4>")), "\xE4");
  EXPECT_EQ(fallback->IdToBytes(*fallback->TokenToId("\u2581hi")), " hi");
}

TEST(Tokenizer, DecodesWhatItEncodedInEveryScript) {
  for (const std::string& json : {ByteLevelJson(), ByteFallbackJson()}) {
    const auto tokenizer = MustLoad(json);
    for (const std::string& text : MultilingualTexts()) {
      if (json == ByteFallbackJson() && text.find("\u2581") != std::string::npos) continue;
      ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer->Encode(text, kPlain));
      EXPECT_THAT(tokenizer->Decode(ids, {}), IsOkAndHolds(text));
    }
  }
}

TEST(Tokenizer, SpelledOutEqualsParsedWhereNothingLooksLikeAToken) {
  for (const std::string& json : {ByteLevelJson(), ByteFallbackJson(), UnigramJson()}) {
    const auto tokenizer = MustLoad(json);
    for (const std::string& text : MultilingualTexts()) {
      ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> parsed, tokenizer->Encode(text, kParse));
      EXPECT_THAT(tokenizer->Encode(text, kPlain), IsOkAndHolds(parsed)) << text;
    }
  }
}

TEST(Tokenizer, KeepsTheFirstBlankOfTextThatGoesOn) {
  const auto tokenizer = MustLoad(ByteFallbackJson());
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, tokenizer->Encode("hi", kPlain));
  EXPECT_THAT(tokenizer->Decode(ids, {.text_start = true}), IsOkAndHolds("hi"));
  EXPECT_THAT(tokenizer->Decode(ids, {.text_start = false}), IsOkAndHolds(" hi"));
}

TEST(Tokenizer, SkipsSpecialsOnlyWhenAsked) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids,
                       tokenizer->Encode("<think>hello</think><|im_end|>", kParse));
  ASSERT_EQ(ids.size(), 4);
  EXPECT_THAT(tokenizer->Decode(ids, {.skip_special = true}), IsOkAndHolds("<think>hello</think>"));
  EXPECT_THAT(tokenizer->Decode(ids, {.skip_special = false}),
              IsOkAndHolds("<think>hello</think><|im_end|>"));
}

TEST(Tokenizer, RefusesBadInputWithAReason) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  EXPECT_THAT(tokenizer->Encode("ab\xff", kPlain),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not UTF-8 at byte 2")));
  EXPECT_THAT(tokenizer->Encode(std::string(Tokenizer::kMaxTextBytes + 1, 'a'), kPlain),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 8388608")));
  EXPECT_THAT(tokenizer->Decode({1, 2, -5}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_ids[2] is -5")));
  EXPECT_THAT(tokenizer->Decode({tokenizer->vocab_size()}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_ids[0]")));
}

TEST(Tokenizer, RefusesABadJsonWithAReason) {
  for (const char* json : {"", "{", "[]", "{\"model\": 1}", "\xff\xfe"}) {
    EXPECT_THAT(Tokenizer::FromJson(json),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokenizer.json: ")))
        << json;
  }
  std::string json = ByteLevelJson();
  const size_t at = json.find("{\"add_prefix_space\"");  // the decoder comes first
  ASSERT_NE(at, std::string::npos);
  json.replace(at, json.find('}', at) + 1 - at,
               R"({"type":"CTC","pad_token":"p","word_delimiter_token":"|","cleanup":true})");
  EXPECT_THAT(Tokenizer::FromJson(json),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("decoder")));
}

TEST(Tokenizer, RefusesAnAddedTokenThatWouldGetAnotherId) {
  std::string json = ByteFallbackJson();
  const size_t at = json.find("\"id\":2,");
  ASSERT_NE(at, std::string::npos);
  json.replace(at, 7, "\"id\":7,");
  EXPECT_THAT(Tokenizer::FromJson(json),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("added token \"</s>\" has id 7 there and 2 in the vocabulary")));
}

TEST(Tokenizer, ManyThreadsMayShareOne) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  const std::vector<std::string> texts = MultilingualTexts();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        for (const std::string& text : texts) {
          const auto ids = tokenizer->Encode(text, kPlain);
          ASSERT_THAT(ids, IsOk());
          ASSERT_THAT(tokenizer->Decode(*ids, {}), IsOkAndHolds(text));
        }
      }
    });
  }
}

}  // namespace
}  // namespace tandem
