#include "text/gguf_vocab.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "text/gguf_pre_tokenizer.h"
#include "text/tokenizer.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr EncodeOptions kParse = {.parse_special = true};

// <s> = 0, then letters, digits and what the merges make.
GgufVocab ByteLevelVocab() {
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = "smollm";
  vocab.tokens = {"<s>", "a", "b", "1", "2", "\u0120", "ab", "12", "\u0120ab", "<tag>"};
  vocab.token_types = {3, 1, 1, 1, 1, 1, 1, 1, 1, 4};
  vocab.merges = {"a b", "1 2", "\u0120 ab"};
  vocab.bos_id = 0;
  return vocab;
}

GgufVocab SentencePieceVocab() {
  GgufVocab vocab;
  vocab.model = "llama";
  vocab.tokens = {"<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "a", "b", "c", "ab", "bc", "\u2581a"};
  vocab.token_types = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1};
  vocab.scores = {0, 0, 0, 0, -9, -9, -9, -9, -2, -1, -3};
  vocab.bos_id = 1;
  vocab.unk_id = 0;
  return vocab;
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(const GgufVocab& vocab) {
  ASSIGN_OR_RETURN(const std::string json, TokenizerJsonFromGguf(vocab));
  return Tokenizer::FromJson(json);
}

TEST(GgufVocab, ByteLevelMergesWithinTheWordsOfItsPreTokenizer) {
  ASSERT_OK_AND_ASSIGN(const auto smollm, Load(ByteLevelVocab()));
  EXPECT_THAT(smollm->Encode("ab ab12", {}), IsOkAndHolds(ElementsAre(6, 8, 3, 4)))
      << "smollm takes digits one by one";
  GgufVocab vocab = ByteLevelVocab();
  vocab.pre = "gpt-2";
  ASSERT_OK_AND_ASSIGN(const auto gpt2, Load(vocab));
  EXPECT_THAT(gpt2->Encode("ab ab12", {}), IsOkAndHolds(ElementsAre(6, 8, 7)));
}

TEST(GgufVocab, ControlTokensAreSpecialAndUserDefinedOnesAreAdded) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Load(ByteLevelVocab()));
  EXPECT_EQ(tokenizer->Kind(0), TokenKind::kSpecial);
  EXPECT_EQ(tokenizer->Kind(9), TokenKind::kAdded);
  EXPECT_EQ(tokenizer->Kind(1), TokenKind::kNormal);
  EXPECT_THAT(tokenizer->Encode("<s>a<tag>", kParse), IsOkAndHolds(ElementsAre(0, 1, 9)));
  EXPECT_EQ(tokenizer->vocab_size(), 10);
}

TEST(GgufVocab, AnEndTokenIsSpecialWhateverItsType) {
  GgufVocab vocab = ByteLevelVocab();
  vocab.eos_id = 9;
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Load(vocab));
  EXPECT_TRUE(tokenizer->IsSpecial(9));
}

TEST(GgufVocab, AddsBosAndEosWhereTheFileOrTheKindSaysSo) {
  const EncodeOptions add = {.add_special = true};
  GgufVocab vocab = ByteLevelVocab();
  EXPECT_THAT((*Load(vocab))->Encode("a", add), IsOkAndHolds(ElementsAre(1)));
  vocab.add_bos = true;
  vocab.add_eos = true;
  vocab.eos_id = 9;
  EXPECT_THAT((*Load(vocab))->Encode("a", add), IsOkAndHolds(ElementsAre(0, 1, 9)));
  EXPECT_THAT((*Load(SentencePieceVocab()))->Encode("a", add), IsOkAndHolds(ElementsAre(1, 10)));
}

TEST(GgufVocab, SentencePieceJoinsTheBestScoreFirst) {
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Load(SentencePieceVocab()));
  EXPECT_THAT(tokenizer->Encode("abc", {}), IsOkAndHolds(ElementsAre(10, 9)))
      << "bc (-1) before ab (-2), then the blank in front and a (-3)";
  EXPECT_THAT(tokenizer->Encode("ab\n", {}), IsOkAndHolds(ElementsAre(4, 8, 3)));
  EXPECT_THAT(tokenizer->Decode({10, 9, 3}, {}), IsOkAndHolds("abc\n"));
  GgufVocab vocab = SentencePieceVocab();
  vocab.add_space_prefix = false;
  ASSERT_OK_AND_ASSIGN(const auto bare, Load(vocab));
  EXPECT_THAT(bare->Encode("abc", {}), IsOkAndHolds(ElementsAre(5, 9)));
}

TEST(GgufVocab, ControlTokensNeverComeOutOfMerges) {
  GgufVocab vocab = SentencePieceVocab();
  vocab.tokens = {"<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "<", "s", ">", "<s", "s>", "a"};
  vocab.add_space_prefix = false;
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Load(vocab));
  EXPECT_THAT(tokenizer->Encode("<s>", {}), IsOkAndHolds(ElementsAre(5, 9)));
  EXPECT_THAT(tokenizer->Encode("<s>", kParse), IsOkAndHolds(ElementsAre(1)));
}

TEST(GgufVocab, EveryPreTokenizerLoads) {
  const std::vector<std::string> names = {"llama-bpe",    "dbrx",    "glm4",   "smollm",
                                          "gpt-2",        "qwen2",   "qwen35", "deepseek-r1-qwen",
                                          "gpt-4o",       "tekken",  "falcon", "deepseek-v3",
                                          "deepseek-llm", "default", "",       "deepseek-coder"};
  for (const std::string& name : names) {
    GgufVocab vocab = ByteLevelVocab();
    vocab.pre = name;
    ASSERT_OK_AND_ASSIGN(const auto tokenizer, Load(vocab));
    EXPECT_THAT(tokenizer->Encode("ab ab", {}), IsOkAndHolds(ElementsAre(6, 8))) << name;
  }
}

TEST(GgufVocab, AnUnknownKindIsRefusedWithTheKnownOnes) {
  GgufVocab vocab = ByteLevelVocab();
  vocab.pre = "new-fashion";
  EXPECT_THAT(Load(vocab), StatusIs(absl::StatusCode::kUnimplemented,
                                    HasSubstr("\"new-fashion\"; known are llama-bpe")));
  vocab.model = "rwkv";
  EXPECT_THAT(Load(vocab), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("\"rwkv\"")));
}

TEST(GgufVocab, AContradictionNamesItsEntry) {
  GgufVocab vocab = ByteLevelVocab();
  vocab.merges[1] = "1 3";
  EXPECT_THAT(Load(vocab), StatusIs(kInvalid, HasSubstr("tokenizer.ggml.merges[1]")));
  vocab.merges[1] = "12";
  EXPECT_THAT(Load(vocab), StatusIs(kInvalid, HasSubstr("tokenizer.ggml.merges[1]")));
  vocab = ByteLevelVocab();
  vocab.tokens[2] = "a";
  EXPECT_THAT(Load(vocab), StatusIs(kInvalid, HasSubstr("tokens[2] repeats entry 1")));
  vocab.tokens[2] = "\xff";
  EXPECT_THAT(Load(vocab), StatusIs(kInvalid, HasSubstr("tokens[2] is not UTF-8")));
  vocab = ByteLevelVocab();
  vocab.token_types.pop_back();
  EXPECT_THAT(Load(vocab), StatusIs(kInvalid, HasSubstr("token_type has 9 entries and tokens 10")));
  vocab = ByteLevelVocab();
  vocab.bos_id = 10;
  EXPECT_THAT(Load(vocab), StatusIs(kInvalid, HasSubstr("bos_token_id is 10")));
  vocab = SentencePieceVocab();
  vocab.scores.clear();
  EXPECT_THAT(Load(vocab), StatusIs(kInvalid, HasSubstr("scores has 0 entries")));
  EXPECT_THAT(Load(GgufVocab{.model = "gpt2"}), StatusIs(kInvalid, HasSubstr("tokens has 0")));
}

}  // namespace
}  // namespace tandem
