#include <thread>

#include "tests/router/store/store_fixture.h"

namespace tandem {
namespace {

using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using CommitTest = StoreTest;

TEST_P(CommitTest, RecordsComeBackAsTheyWereStored) {
  AddAcme();
  Key key = TestKey("k2", "acme-chat");
  key.secrets.push_back({.sha256 = {9, 9},
                         .created = TestTime() + absl::Microseconds(1),
                         .expires = TestTime() + absl::Hours(1)});
  key.models = {"smollm2", "größer model"};
  key.expires = TestTime() + absl::Hours(24 * 365);
  LimitRule limit{.id = "money",
                  .scope = LimitScope::kProduct,
                  .subject = "acme-chat",
                  .metric = LimitMetric::kMoney,
                  .window = LimitWindow::kMonth,
                  .amount = INT64_MAX,
                  .currency = "EUR",
                  .weights = {.prompt = 1, .cached = 2, .output = 3},
                  .shadow = true,
                  .on_store_failure = OnStoreFailure::kDeny};
  ASSERT_THAT(store_->Commit(TestChange("r", {key, limit})), IsOk());

  ASSERT_OK_AND_ASSIGN(const Key read, store_->GetKey("k2"));
  EXPECT_EQ(read.kind, KeyKind::kUser);
  EXPECT_EQ(read.product_id, "acme-chat");
  EXPECT_EQ(read.organisation_id, "");
  ASSERT_EQ(read.secrets.size(), 2);
  EXPECT_EQ(read.secrets[0].sha256, key.secrets[0].sha256);
  EXPECT_EQ(read.secrets[0].expires, std::nullopt);
  EXPECT_EQ(read.secrets[1].sha256, key.secrets[1].sha256);
  EXPECT_EQ(read.secrets[1].created, key.secrets[1].created);
  EXPECT_EQ(read.secrets[1].expires, key.secrets[1].expires);
  EXPECT_EQ(read.models, key.models);
  EXPECT_EQ(read.expires, key.expires);
  EXPECT_EQ(read.revoked_at, std::nullopt);

  ASSERT_OK_AND_ASSIGN(const LimitRule stored, store_->GetLimit("money"));
  EXPECT_EQ(stored.amount, INT64_MAX);
  EXPECT_EQ(stored.currency, "EUR");
  EXPECT_EQ(stored.window, LimitWindow::kMonth);
  EXPECT_EQ(stored.weights.output, 3);
  EXPECT_TRUE(stored.shadow);
  EXPECT_EQ(stored.on_store_failure, OnStoreFailure::kDeny);
  ASSERT_OK_AND_ASSIGN(const Organisation organisation, store_->GetOrganisation("acme"));
  EXPECT_EQ(organisation.name, "Organisation acme");
  EXPECT_EQ(organisation.created, TestTime());
  EXPECT_THAT(store_->GetProduct("none"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no product 'none'")));
}

TEST_P(CommitTest, ACallThatIsSentAgainIsAnsweredFromTheFirstAndChangesNothing) {
  AddAcme();
  const ChangeSet change = TestChange("r1", {TestProduct("p2", "acme")});
  ASSERT_OK_AND_ASSIGN(const Committed first, store_->Commit(change));
  EXPECT_FALSE(first.replayed);
  ChangeSet again = change;
  again.call.response = "another answer";
  ASSERT_OK_AND_ASSIGN(const Committed second, store_->Commit(again));
  EXPECT_TRUE(second.replayed);
  EXPECT_EQ(second.response, change.call.response);
  EXPECT_EQ(second.revision, first.revision);
  ASSERT_OK_AND_ASSIGN(const Page<AuditEntry> audit, store_->ListAudit({}));
  EXPECT_EQ(audit.items.size(), 2);  // acme's and the first

  again.call.request_digest = {8};
  EXPECT_THAT(store_->Commit(again), StatusIs(absl::StatusCode::kInvalidArgument,
                                              HasSubstr("'r1' was used for another request")));
  again.call.principal = "key:other";  // whose request ids are its own
  EXPECT_THAT(store_->Commit(again), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_P(CommitTest, AChangeThatFailsLeavesNothingOfItself) {
  AddAcme();
  ASSERT_OK_AND_ASSIGN(const int64_t before, store_->Revision());
  const ChangeSet change = TestChange("r1", {TestProduct("p2", "acme"), TestKey("k9", "nowhere")});
  EXPECT_THAT(store_->Commit(change),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no product 'nowhere'")));
  EXPECT_THAT(store_->GetProduct("p2"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store_->FindAdminCall("key:root", "r1"), IsOkAndHolds(Eq(std::nullopt)));
  EXPECT_THAT(store_->Revision(), IsOkAndHolds(before));
  ASSERT_OK_AND_ASSIGN(const Page<AuditEntry> audit, store_->ListAudit({}));
  EXPECT_EQ(audit.items.size(), 1);
}

TEST_P(CommitTest, AChangeMadeFromAnOldStateIsRefused) {
  AddAcme();
  ASSERT_OK_AND_ASSIGN(Product mine, store_->GetProduct("acme-chat"));
  Product theirs = mine;
  theirs.name = "Theirs";
  ASSERT_THAT(store_->Commit(TestChange("r1", {theirs})), IsOk());
  mine.name = "Mine";
  EXPECT_THAT(store_->Commit(TestChange("r2", {mine})),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("read it again")));
  ASSERT_OK_AND_ASSIGN(const Product now, store_->GetProduct("acme-chat"));
  EXPECT_EQ(now.name, "Theirs");
  EXPECT_GT(now.revision, mine.revision);
  mine.revision = 0;
  EXPECT_THAT(store_->Commit(TestChange("r3", {mine})), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_P(CommitTest, WhatIdentifiesARecordNeverChanges) {
  AddAcme();
  ASSERT_THAT(store_->Commit(TestChange("r1", {TestOrganisation("other")})), IsOk());
  ASSERT_OK_AND_ASSIGN(Product product, store_->GetProduct("acme-chat"));
  product.organisation_id = "other";
  EXPECT_THAT(store_->Commit(TestChange("r2", {product})),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("organisation_id")));

  ASSERT_OK_AND_ASSIGN(Key key, store_->GetKey("k1"));
  key.revoked_at = TestTime();
  ASSERT_THAT(store_->Commit(TestChange("r3", {key})), IsOk());
  ASSERT_OK_AND_ASSIGN(key, store_->GetKey("k1"));
  EXPECT_EQ(key.revoked_at, TestTime());
  key.revoked_at.reset();
  EXPECT_THAT(store_->Commit(TestChange("r4", {key})),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("revoked")));

  ASSERT_THAT(store_->Commit(TestChange("r5", {TestPrice("a", "1", TestTime())})), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto prices, store_->PricesAt("smollm2", TestTime()));
  ASSERT_EQ(prices.size(), 1);
  EXPECT_THAT(store_->Commit(TestChange("r6", {prices[0]})),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("price never changes")));
}

TEST_P(CommitTest, ChangesAreSeenFromTheRevisionThatWasAskedLast) {
  AddAcme();
  ASSERT_OK_AND_ASSIGN(const Changes all, store_->ChangesSince(0, 100));
  EXPECT_EQ(all.records.size(), 3);
  EXPECT_FALSE(all.more);
  ASSERT_OK_AND_ASSIGN(Changes none, store_->ChangesSince(all.revision, 100));
  EXPECT_THAT(none.records, IsEmpty());
  EXPECT_EQ(none.revision, all.revision);

  ASSERT_OK_AND_ASSIGN(Key key, store_->GetKey("k1"));
  key.revoked_at = TestTime();
  ASSERT_THAT(store_->Commit(TestChange("r1", {key, TestLimit("l1")})), IsOk());
  ASSERT_OK_AND_ASSIGN(const Changes since, store_->ChangesSince(all.revision, 100));
  ASSERT_EQ(since.records.size(), 2);
  ASSERT_TRUE(std::holds_alternative<Key>(since.records[0]));
  EXPECT_EQ(std::get<Key>(since.records[0]).revoked_at, TestTime());
  ASSERT_TRUE(std::holds_alternative<LimitRule>(since.records[1]));
  EXPECT_THAT(store_->Revision(), IsOkAndHolds(since.revision));
}

TEST_P(CommitTest, ChangesInSmallPartsAreTheSameAsAtOnce) {
  AddAcme();
  for (int i = 0; i < 7; ++i) {
    const std::string n = std::to_string(i);
    ASSERT_THAT(
        store_->Commit(TestChange("r" + n, {TestKey("x" + n, "acme-chat"), TestLimit("l" + n)})),
        IsOk());
  }
  ASSERT_OK_AND_ASSIGN(const Changes all, store_->ChangesSince(0, 1000));
  EXPECT_EQ(all.records.size(), 17);
  std::vector<Record> parts;
  int64_t revision = 0;
  for (bool more = true; more;) {
    ASSERT_OK_AND_ASSIGN(Changes part, store_->ChangesSince(revision, 2));
    ASSERT_LE(part.records.size(), 2);
    ASSERT_FALSE(part.more && part.revision <= revision);
    std::move(part.records.begin(), part.records.end(), std::back_inserter(parts));
    revision = part.revision;
    more = part.more;
  }
  EXPECT_EQ(revision, all.revision);
  ASSERT_EQ(parts.size(), all.records.size());
  const auto id = [](const Record& record) {
    return std::visit([](const auto& value) { return value.id; }, record);
  };
  for (size_t i = 0; i < parts.size(); ++i) EXPECT_EQ(id(parts[i]), id(all.records[i]));
}

TEST_P(CommitTest, OfManyCallersWithOneRequestOneChangesTheStore) {
  AddAcme();
  constexpr int kCallers = 4;
  std::vector<absl::StatusOr<Committed>> results(kCallers, absl::UnknownError("not run"));
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back(
        [&, i] { results[i] = store_->Commit(TestChange("same", {TestProduct("p2", "acme")})); });
  }
  for (std::thread& caller : callers) caller.join();
  int made = 0;
  for (const auto& result : results) {
    ASSERT_THAT(result, IsOk());
    made += result->replayed ? 0 : 1;
    EXPECT_EQ(result->revision, 4);
  }
  EXPECT_EQ(made, 1);
}

TEST_P(CommitTest, AuditLinesAreNumberedWithoutAGapAndListedInOrder) {
  AddAcme();
  std::vector<AuditEntry> denied(3, TestAudit("denied"));
  denied[1].outcome = "PERMISSION_DENIED";
  denied[1].before = R"({"text": "ünïcode\n"})";
  ASSERT_THAT(store_->AppendAudit(denied), IsOk());
  ASSERT_OK_AND_ASSIGN(const Page<AuditEntry> first, store_->ListAudit({.size = 3}));
  ASSERT_EQ(first.items.size(), 3);
  EXPECT_EQ(first.items[0].request_id, "acme");
  EXPECT_EQ(first.items[2].outcome, "PERMISSION_DENIED");
  EXPECT_EQ(first.items[2].before, denied[1].before);
  ASSERT_OK_AND_ASSIGN(const Page<AuditEntry> last,
                       store_->ListAudit({.size = 3, .cursor = first.next_cursor}));
  ASSERT_EQ(last.items.size(), 1);
  EXPECT_EQ(last.items[0].sequence, 4);
  EXPECT_EQ(last.next_cursor, "");
}

TEST_P(CommitTest, OldAnswersAreForgottenTheOldestFirst) {
  AddAcme();
  ChangeSet late = TestChange("late", {TestProduct("p2", "acme")});
  late.call.when = TestTime() + absl::Hours(2);
  ASSERT_THAT(store_->Commit(late), IsOk());
  EXPECT_THAT(store_->ForgetAdminCalls(TestTime() + absl::Hours(1), 10), IsOkAndHolds(1));
  EXPECT_THAT(store_->FindAdminCall("key:root", "acme"), IsOkAndHolds(Eq(std::nullopt)));
  ASSERT_OK_AND_ASSIGN(const auto kept, store_->FindAdminCall("key:root", "late"));
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->response, late.call.response);
  EXPECT_EQ(kept->request_digest, late.call.request_digest);
  EXPECT_EQ(kept->when, late.call.when);
}

TEST_P(CommitTest, AManagementKeyBelongsToAnOrganisationOrToTheCluster) {
  AddAcme();
  Key cluster{.id = "root", .kind = KeyKind::kManagement, .created = TestTime()};
  Key acme{
      .id = "m1", .kind = KeyKind::kManagement, .organisation_id = "acme", .created = TestTime()};
  ASSERT_THAT(store_->Commit(TestChange("r1", {cluster, acme})), IsOk());
  ASSERT_OK_AND_ASSIGN(const Key read, store_->GetKey("m1"));
  EXPECT_EQ(read.kind, KeyKind::kManagement);
  EXPECT_EQ(read.organisation_id, "acme");
  EXPECT_THAT(read.secrets, IsEmpty());
  acme.id = "m2";
  acme.organisation_id = "nobody";
  EXPECT_THAT(store_->Commit(TestChange("r2", {acme})), StatusIs(absl::StatusCode::kNotFound));
}

INSTANTIATE_TEST_SUITE_P(Stores, CommitTest, EveryStore(), StoreName);

}  // namespace
}  // namespace tandem
