#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/detokenizer.h"
#include "text/rust.h"

// What happens at the C ABI when either side is wrong.
namespace tandem {
namespace {

using ::testing::HasSubstr;
using text_internal::FromRust;
using text_internal::RustBytes;
using text_internal::RustIds;

TEST(RustBoundary, APanicComesBackAsAStatusAndPoisonsItsObject) {
  const auto tokenizer = MustLoad(ByteLevelJson());
  RustBytes error;
  EXPECT_THAT(FromRust(tt_tokenizer_panic_for_test(tokenizer->handle(), error.out()), error),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("asked for by a test")));
  EXPECT_THAT(tokenizer->Encode("a", {}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("earlier call")));
  EXPECT_THAT(tokenizer->Decode({}, {}), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(Detokenizer::Create(*tokenizer, {}), StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(tokenizer->TokenToId("a"), std::nullopt);
  EXPECT_THAT(MustLoad(ByteLevelJson())->Encode("a", {}), IsOk()) << "others are not affected";
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
  tt_bytes_free(nullptr);
  tt_ids_free(nullptr);
}

}  // namespace
}  // namespace tandem
