#include <algorithm>

#include "tests/router/store/store_fixture.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using ListingTest = StoreTest;

std::vector<std::string> PriceIds(const std::vector<Price>& prices) {
  std::vector<std::string> ids;
  for (const Price& price : prices) ids.push_back(price.id);
  return ids;
}

TEST_P(ListingTest, PagesTogetherListEachRecordOnceByTheBytesOfItsId) {
  AddAcme();
  // What a locale would order otherwise: capitals, dashes and dots.
  const std::vector<std::string> made = {"b", "B", "a-b", "a.b", "ab", "a_b", "10", "9", "_", "Z-"};
  for (const std::string& id : made) {
    ASSERT_THAT(store_->Commit(TestChange("r" + id, {TestProduct(id, "acme")})), IsOk());
  }
  std::vector<std::string> want = made;
  want.push_back("acme-chat");
  std::sort(want.begin(), want.end());
  std::vector<std::string> got;
  PageRequest request{.size = 3};
  do {
    ASSERT_OK_AND_ASSIGN(const Page<Product> page, store_->ListProducts("", request));
    ASSERT_LE(page.items.size(), 3);
    for (const Product& product : page.items) got.push_back(product.id);
    request.cursor = page.next_cursor;
  } while (!request.cursor.empty());
  EXPECT_THAT(got, ElementsAreArray(want));
}

TEST_P(ListingTest, AFullLastPageHasNoNextOne) {
  AddAcme();
  ASSERT_THAT(store_->Commit(TestChange("r", {TestOrganisation("b")})), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto page, store_->ListOrganisations({.size = 2}));
  EXPECT_EQ(page.items.size(), 2);
  EXPECT_EQ(page.next_cursor, "");
}

TEST_P(ListingTest, AListingIsNarrowedToOneParent) {
  AddAcme();
  ASSERT_THAT(store_->Commit(TestChange(
                  "r", {TestOrganisation("b"), TestProduct("b1", "b"), TestKey("bk", "b1")})),
              IsOk());
  ASSERT_OK_AND_ASSIGN(const Page<Product> products, store_->ListProducts("b", {}));
  ASSERT_EQ(products.items.size(), 1);
  EXPECT_EQ(products.items[0].id, "b1");
  ASSERT_OK_AND_ASSIGN(const Page<Key> keys, store_->ListKeys("acme-chat", {}));
  ASSERT_EQ(keys.items.size(), 1);
  EXPECT_EQ(keys.items[0].id, "k1");
  ASSERT_OK_AND_ASSIGN(const Page<Key> nobodys, store_->ListKeys("nobody", {}));
  EXPECT_THAT(nobodys.items, IsEmpty());
}

TEST_P(ListingTest, ACursorOfAnotherListingOrOfNoneIsRefused) {
  AddAcme();
  ASSERT_THAT(store_->Commit(TestChange("r", {TestProduct("p2", "acme")})), IsOk());
  ASSERT_OK_AND_ASSIGN(const Page<Product> page, store_->ListProducts("", {.size = 1}));
  ASSERT_NE(page.next_cursor, "");
  for (const std::string& cursor : {page.next_cursor, std::string("!!!"), std::string("AAAA"),
                                    std::string(100000, 'A'), std::string("gICA")}) {
    EXPECT_THAT(store_->ListKeys("", {.cursor = cursor}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("page.cursor")));
    EXPECT_THAT(store_->ListUsage({}, {.cursor = cursor}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("page.cursor")));
  }
  for (const int size : {0, -1, kPageSizeMax + 1}) {
    EXPECT_THAT(store_->ListProducts("", {.size = size}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("page.size")));
  }
}

TEST_P(ListingTest, ALookUpOfTextThatNoDatabaseTakesIsRefused) {
  for (const std::string& id :
       {std::string("a\0b", 3), std::string("\xff"), std::string(5000, 'a')}) {
    EXPECT_THAT(store_->GetKey(id), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(store_->ListLimits(id, {}), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(store_->PricesAt(id, TestTime()), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(store_->GetUsage(id), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(store_->FindAdminCall(id, "r"), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST_P(ListingTest, PricesAreThoseInEffectAtATime) {
  const absl::Time t = TestTime();
  Price output = TestPrice("out", "4.5", t);
  output.kind = PriceKind::kOutput;
  Price other = TestPrice("other", "9", t);
  other.model = "another";
  ASSERT_THAT(store_->Commit(TestChange(
                  "r", {TestPrice("second", "2", t + absl::Hours(1)), TestPrice("first", "1", t),
                        TestPrice("third", "3", t + absl::Hours(2)), output, other})),
              IsOk());
  const auto at = [&](absl::Time when) { return PriceIds(*store_->PricesAt("smollm2", when)); };
  EXPECT_THAT(at(t - absl::Microseconds(1)), IsEmpty());
  EXPECT_THAT(at(t), ElementsAre("first", "out"));
  EXPECT_THAT(at(t + absl::Hours(1) - absl::Microseconds(1)), ElementsAre("first", "out"));
  EXPECT_THAT(at(t + absl::Hours(1)), ElementsAre("second", "out"));
  EXPECT_THAT(at(t + absl::Hours(9)), ElementsAre("third", "out"));
  // A correction has the same date, and comes later.
  ASSERT_THAT(store_->Commit(TestChange("r2", {TestPrice("a-mended", "1.1", t)})), IsOk());
  EXPECT_THAT(at(t), ElementsAre("a-mended", "out"));
  ASSERT_OK_AND_ASSIGN(const Page<Price> listed, store_->ListPrices("another", {}));
  ASSERT_EQ(listed.items.size(), 1);
  EXPECT_EQ(listed.items[0].nano_per_million, 9000000000);
  EXPECT_EQ(listed.items[0].effective_from, t);
}

TEST_P(ListingTest, RemovedLimitsAreListedAsRemoved) {
  ASSERT_THAT(store_->Commit(TestChange("r1", {TestLimit("l1")})), IsOk());
  ASSERT_OK_AND_ASSIGN(LimitRule limit, store_->GetLimit("l1"));
  limit.removed = true;
  ASSERT_THAT(store_->Commit(TestChange("r2", {limit})), IsOk());
  ASSERT_OK_AND_ASSIGN(const Page<LimitRule> page, store_->ListLimits("", {}));
  ASSERT_EQ(page.items.size(), 1);
  EXPECT_TRUE(page.items[0].removed);
}

INSTANTIATE_TEST_SUITE_P(Stores, ListingTest, EveryStore(), StoreName);

}  // namespace
}  // namespace tandem
