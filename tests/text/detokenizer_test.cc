#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"

namespace tandem {
namespace {

absl::StatusOr<std::string> Streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                                     DecodeOptions options) {
  ASSIGN_OR_RETURN(Detokenizer detokenizer, Detokenizer::Create(tokenizer, options));
  std::string text;
  for (const int32_t id : ids) {
    ASSIGN_OR_RETURN(const std::string delta, detokenizer.Push(id));
    text += delta;
  }
  ASSIGN_OR_RETURN(const std::string rest, detokenizer.Finish());
  return text + rest;
}

void ExpectStreamedEqualsWhole(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  for (const bool skip_special : {false, true}) {
    for (const bool text_start : {false, true}) {
      const DecodeOptions options = {.skip_special = skip_special, .text_start = text_start};
      ASSERT_OK_AND_ASSIGN(const std::string whole, tokenizer.Decode(ids, options));
      ASSERT_THAT(Streamed(tokenizer, ids, options), IsOkAndHolds(whole));
    }
  }
}

TEST(Detokenizer, StreamedEqualsWholeForRandomIds) {
  std::mt19937 random(1);
  for (const std::string& json : {ByteLevelJson(), ByteFallbackJson(), UnigramJson()}) {
    const auto tokenizer = MustLoad(json);
    for (int round = 0; round < 2000; ++round) {
      std::vector<int32_t> ids(random() % 12);
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % tokenizer->vocab_size());
      ExpectStreamedEqualsWhole(*tokenizer, ids);
    }
  }
}

TEST(Detokenizer, StreamedEqualsWholeInEveryScriptAndCutAnywhere) {
  for (const std::string& json : {ByteLevelJson(), ByteFallbackJson()}) {
    const auto tokenizer = MustLoad(json);
    for (const std::string& text : MultilingualTexts()) {
      ASSERT_OK_AND_ASSIGN(std::vector<int32_t> ids, tokenizer->Encode(text, {}));
      while (!ids.empty()) {
        ExpectStreamedEqualsWhole(*tokenizer, ids);
        ids.pop_back();
      }
    }
  }
}

TEST(Detokenizer, HoldsBackAnUnfinishedCodePointAndNothingElse) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(Detokenizer detokenizer, Detokenizer::Create(*tokenizer, {}));
  EXPECT_THAT(detokenizer.Push('a'), IsOkAndHolds("a"));
  EXPECT_THAT(detokenizer.Push(0xE4), IsOkAndHolds(""));
  EXPECT_THAT(detokenizer.Push(0xBD), IsOkAndHolds(""));
  EXPECT_THAT(detokenizer.Push(0xA0), IsOkAndHolds("\u4f60"));
  EXPECT_THAT(detokenizer.Push(0xF0), IsOkAndHolds(""));
  EXPECT_THAT(detokenizer.Push('b'), IsOkAndHolds("\uFFFDb"));
  EXPECT_THAT(detokenizer.Push(0xF0), IsOkAndHolds(""));
  EXPECT_THAT(detokenizer.Finish(), IsOkAndHolds("\uFFFD"));
}

TEST(Detokenizer, AnIdThatNoTokenHasAddsNothing) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(Detokenizer detokenizer, Detokenizer::Create(*tokenizer, {}));
  EXPECT_THAT(detokenizer.Push(-1), IsOkAndHolds(""));
  EXPECT_THAT(detokenizer.Push(1 << 30), IsOkAndHolds(""));
}

TEST(Detokenizer, OutlivesItsTokenizer) {
  auto tokenizer = MustLoad(ByteLevelJson());
  ASSERT_OK_AND_ASSIGN(Detokenizer detokenizer, Detokenizer::Create(*tokenizer, {}));
  tokenizer.reset();
  EXPECT_THAT(detokenizer.Push('x'), IsOkAndHolds("x"));
}

}  // namespace
}  // namespace tandem
