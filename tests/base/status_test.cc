#include "base/status.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<int> Half(int x) {
  if (x % 2 != 0) return absl::InvalidArgumentError(absl::StrCat(x, " is odd"));
  return x / 2;
}

absl::StatusOr<int> Quarter(int x) {
  ASSIGN_OR_RETURN(const int half, Half(x));
  return Half(half);
}

absl::Status CheckQuarter(int x) {
  RETURN_IF_ERROR(Annotate(Quarter(x).status(), "quarter"));
  return absl::OkStatus();
}

TEST(Status, MacrosPassValuesAndErrorsOn) {
  EXPECT_THAT(Quarter(8), IsOkAndHolds(2));
  EXPECT_THAT(Quarter(6), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 is odd")));
}

TEST(Status, AnnotateKeepsThePayloads) {
  absl::Status status = absl::UnavailableError("full");
  status.SetPayload("type.example/Retry", absl::Cord("2s"));
  const absl::Status annotated = Annotate(status, "worker 3");
  EXPECT_EQ(annotated.message(), "worker 3: full");
  EXPECT_EQ(annotated.GetPayload("type.example/Retry"), absl::Cord("2s"));
}

TEST(Status, AnnotateAddsANounAndKeepsTheCode) {
  EXPECT_THAT(CheckQuarter(8), IsOk());
  EXPECT_THAT(CheckQuarter(5),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("quarter: 5 is odd")));
}

}  // namespace
}  // namespace tandem
