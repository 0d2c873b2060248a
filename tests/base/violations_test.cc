#include "base/violations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

TEST(Violations, SayWhatIsThereAndWhatIsWanted) {
  const auto why = [](const auto& check) {
    Violations v;
    check(&v);
    return std::string(v.ToStatus().message());
  };
  EXPECT_EQ(why([](Violations* v) { v->Range("a", 3, {-2, 2}); }), "a: it is 3, want -2 to 2");
  EXPECT_EQ(why([](Violations* v) { v->Range("a", 0, {0, 1, true}); }),
            "a: it is 0, want above 0 and at most 1");
  EXPECT_EQ(why([](Violations* v) { v->Range("a", NAN, {0, 1}); }), "a: it is nan, want 0 to 1");
  EXPECT_EQ(why([](Violations* v) { v->Bytes("a", 5, 1, 4); }), "a: it has 5 bytes, want 1 to 4");
  EXPECT_EQ(why([](Violations* v) { v->Count("a", 5, 4); }), "a: it has 5 entries, at most 4");
}

TEST(Violations, NumbersAreWrittenWithAllTheirDigits) {
  const auto why = [](double value, const ValueRange& range) {
    Violations v;
    v.Range("a", value, range);
    return std::string(v.ToStatus().message());
  };
  EXPECT_EQ(why(3'600'001, {1, 3'600'000}), "a: it is 3600001, want 1 to 3600000");
  EXPECT_EQ(why(-1'000'000, {0, 1}), "a: it is -1000000, want 0 to 1");
  EXPECT_EQ(why(1.0000001, {0, 1}), "a: it is 1.0000001, want 0 to 1");
  EXPECT_EQ(why(1.1f, {0.1f, 0.25}), "a: it is 1.1, want 0.1 to 0.25");
  EXPECT_EQ(why(1e300, {0, 1}), "a: it is 1e+300, want 0 to 1");
  EXPECT_EQ(why(INFINITY, {0, 1}), "a: it is inf, want 0 to 1");
}

TEST(Violations, TheEndsOfARangeAreInIt) {
  Violations v;
  v.Range("a", -2, {-2, 2});
  v.Range("a", 2, {-2, 2});
  v.Range("a", 1, {0, 1, true});
  v.Bytes("a", 1, 1, 4);
  v.Bytes("a", 4, 1, 4);
  EXPECT_TRUE(v.Count("a", 4, 4));
  EXPECT_THAT(v.ToStatus(), IsOk());
}

TEST(Violations, TheFirstIsTheMessageAndSixteenAreInTheDetails) {
  Violations v;
  for (int i = 0; i < 20; ++i) v.Add(absl::StrCat("field", i), "it is wrong");
  const absl::Status status = v.ToStatus();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               "field0: it is wrong (and 19 more wrong fields)"));
  const auto bad = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad.has_value());
  ASSERT_EQ(bad->field_violations_size(), 16);
  EXPECT_EQ(bad->field_violations(15).field(), "field15");
}

}  // namespace
}  // namespace tandem
