#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/detokenizer.h"
#include "text/rust.h"

// What happens at the C ABI when either side is wrong.
namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using text_internal::FromRust;
using text_internal::RustBytes;
using text_internal::RustIds;

TEST(RustBoundary, APanicComesBackAsAStatusWithItsPlaceAndWithoutItsText) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  RustBytes error;
  EXPECT_THAT(FromRust(tt_tokenizer_panic_for_test(tokenizer->handle(), error.out()), error),
              StatusIs(absl::StatusCode::kInternal, AllOf(ContainsRegex("panic at .*lib.rs:[0-9]+"),
                                                          Not(HasSubstr("asked for by a test")))));
}

TEST(RustBoundary, APanicInATokenizerFailsThatCallOnly) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  RustBytes error;
  ASSERT_EQ(tt_tokenizer_panic_for_test(tokenizer->handle(), error.out()), TT_PANIC);
  EXPECT_THAT(tokenizer->Encode("a", {}), IsOk());
  EXPECT_THAT(tokenizer->Decode({}, {}), IsOk());
  EXPECT_THAT(Detokenizer::Create(*tokenizer, {}), IsOk());
}

TEST(RustBoundary, APanicInAStreamPoisonsThatStreamOnly) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  tt_stream* streams[2] = {};
  for (tt_stream*& stream : streams) {
    ASSERT_EQ(tt_stream_new(tokenizer->handle(), 1, 0, &stream, nullptr), TT_OK);
  }
  ASSERT_EQ(tt_stream_panic_for_test(streams[0]), TT_PANIC);
  const uint8_t* text = nullptr;
  size_t size = 0;
  EXPECT_EQ(tt_stream_push(streams[0], 0, &text, &size), TT_PANIC);
  EXPECT_EQ(tt_stream_push(streams[1], 0, &text, &size), TT_OK);
  for (tt_stream* stream : streams) tt_stream_free(stream);
}

TEST(RustBoundary, NullHandlesAndPointersAreRefused) {
  RustBytes error;
  RustIds ids;
  EXPECT_EQ(tt_tokenizer_encode(nullptr, nullptr, 0, nullptr, 0, 0, 0, ids.out(), error.out()),
            TT_ARGUMENT);
  EXPECT_EQ(tt_tokenizer_load(nullptr, 5, nullptr, nullptr), TT_ARGUMENT);
  EXPECT_EQ(tt_tokenizer_vocab_size(nullptr), 0u);
  const uint8_t* text = nullptr;
  size_t size = 0;
  EXPECT_EQ(tt_stream_push(nullptr, 1, &text, &size), TT_ARGUMENT);
  EXPECT_EQ(tt_template_render(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr), TT_ARGUMENT);
  EXPECT_EQ(tt_grammar_compile(nullptr, TT_REGEX, nullptr, 0, nullptr, nullptr), TT_ARGUMENT);
  EXPECT_EQ(tt_matcher_new(nullptr, nullptr, nullptr), TT_ARGUMENT);
  EXPECT_EQ(tt_matcher_mask(nullptr, nullptr, 0, nullptr, nullptr), TT_ARGUMENT);
  EXPECT_EQ(tt_matcher_consume(nullptr, nullptr, 0, nullptr, nullptr), TT_ARGUMENT);
  const auto tokenizer = MustLoad(ByteLevelJson());
  EXPECT_EQ(
      tt_tokenizer_encode(tokenizer->handle(), nullptr, 3, nullptr, 0, 0, 0, ids.out(), nullptr),
      TT_ARGUMENT);
  EXPECT_EQ(
      tt_tokenizer_encode(tokenizer->handle(), nullptr, 0, nullptr, 0, 0, 0, nullptr, nullptr),
      TT_ARGUMENT);
  EXPECT_THAT(tokenizer->Encode("a", {}), IsOk()) << "a refusal does not poison";
}

TEST(RustBoundary, FreeingNothingIsFine) {
  tt_tokenizer_free(nullptr);
  tt_stream_free(nullptr);
  tt_template_free(nullptr);
  tt_environment_free(nullptr);
  tt_grammar_free(nullptr);
  tt_matcher_free(nullptr);
  tt_bytes_free(nullptr);
  tt_ids_free(nullptr);
}

}  // namespace
}  // namespace tandem
