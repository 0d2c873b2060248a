#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/router/store/store_fixture.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using LedgerTest = StoreTest;

constexpr int64_t kManyRows = 150;  // more than one statement takes, and not a multiple

TEST_P(LedgerTest, ARowComesBackAsItWasWritten) {
  UsageRow row = TestUsage("c1");
  row.outcome = UsageOutcome::kCancelled;
  row.finish_reason = "";
  row.tokens.prompt = int64_t{1} << 60;
  ASSERT_THAT(store_->Append({row}), IsOk());
  ASSERT_OK_AND_ASSIGN(const UsageRow read, store_->GetUsage("c1"));
  EXPECT_EQ(read.request_id, row.request_id);
  EXPECT_EQ(read.router, "router-0");
  EXPECT_EQ(read.party.organisation_id, "acme");
  EXPECT_EQ(read.party.product_id, "acme-chat");
  EXPECT_EQ(read.party.key_id, "k1");
  EXPECT_EQ(read.party.model, "smollm2");
  EXPECT_EQ(read.model_revision, "main@1234");
  EXPECT_EQ(read.outcome, UsageOutcome::kCancelled);
  EXPECT_EQ(read.tokens.prompt, int64_t{1} << 60);
  EXPECT_EQ(read.tokens.cached, 64);
  EXPECT_EQ(read.tokens.output, 20);
  EXPECT_EQ(read.tokens.reasoning, 5);
  EXPECT_EQ(read.admitted, row.admitted);
  EXPECT_EQ(read.ended, row.ended);
  EXPECT_EQ(read.time_to_first_token, row.time_to_first_token);
  EXPECT_EQ(read.prefill_worker, "p0");
  EXPECT_EQ(read.decode_worker, "d0");
  EXPECT_EQ(read.attempts, 1);
  EXPECT_EQ(read.price_version, "price-1");
  EXPECT_EQ(read.amount_nano, 72000);
  EXPECT_EQ(read.currency, "USD");
  EXPECT_EQ(read.end_user, "5f2c");
  EXPECT_THAT(store_->GetUsage("c2"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(LedgerTest, TheFirstRowOfAChargeStaysAndLaterOnesAreCountedOut) {
  std::vector<LedgerEvent> batch;
  for (int64_t i = 0; i < kManyRows; ++i) {
    batch.push_back(TestAdmission(absl::StrCat("c", i)));
    batch.push_back(TestUsage(absl::StrCat("c", i)));
  }
  ASSERT_OK_AND_ASSIGN(const LedgerWritten first, store_->Append(batch));
  EXPECT_EQ(first.admissions, kManyRows);
  EXPECT_EQ(first.rows, kManyRows);
  UsageRow other = TestUsage("c0");
  other.tokens.output = 999;
  batch.insert(batch.begin(), other);
  batch.push_back(TestUsage("new"));
  batch.push_back(TestUsage("new"));
  ASSERT_OK_AND_ASSIGN(const LedgerWritten second, store_->Append(batch));
  EXPECT_EQ(second.admissions, 0);
  EXPECT_EQ(second.rows, 1);
  ASSERT_OK_AND_ASSIGN(const UsageRow kept, store_->GetUsage("c0"));
  EXPECT_EQ(kept.tokens.output, 20);
}

TEST_P(LedgerTest, ABatchWithOneWrongEventWritesNothing) {
  UsageRow wrong = TestUsage("c2");
  wrong.party.model = "\xff";
  EXPECT_THAT(store_->Append({TestUsage("c1"), wrong}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("events[1]: usage.model")));
  EXPECT_THAT(store_->GetUsage("c1"), StatusIs(absl::StatusCode::kNotFound));
  const std::vector<LedgerEvent> too_many(kLedgerBatchMax + 1, TestUsage("c"));
  EXPECT_THAT(store_->Append(too_many), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const LedgerWritten none, store_->Append({}));
  EXPECT_EQ(none.rows + none.admissions, 0);
}

TEST_P(LedgerTest, OrphansOfAnEarlierLifeAreClosedAsAbandonedAndTheLivingAreLeftAlone) {
  Admission mine = TestAdmission("mine");
  Admission dead = TestAdmission("dead");
  dead.incarnation = 5;
  Admission neighbour = TestAdmission("neighbour");
  neighbour.router = "router-1";
  Admission ancient = neighbour;
  ancient.charge_id = "ancient";
  ancient.admitted -= absl::Hours(48);
  Admission finished = dead;
  finished.charge_id = "finished";
  ASSERT_THAT(store_->Append({mine, dead, neighbour, ancient, finished, TestUsage("finished")}),
              IsOk());
  const OrphanQuery query{.router = "router-0",
                          .incarnation = mine.incarnation,
                          .admitted_before = TestTime() - absl::Hours(24),
                          .now = TestTime() + absl::Minutes(1)};
  ASSERT_OK_AND_ASSIGN(const OrphansClosed closed, store_->CloseOrphans(query, 100));
  EXPECT_EQ(closed.abandoned, 2);
  EXPECT_EQ(closed.forgotten, 3);
  EXPECT_FALSE(closed.more);
  ASSERT_OK_AND_ASSIGN(const UsageRow row, store_->GetUsage("dead"));
  EXPECT_EQ(row.outcome, UsageOutcome::kAbandoned);
  EXPECT_EQ(row.party.key_id, "k1");
  EXPECT_EQ(row.admitted, dead.admitted);
  EXPECT_EQ(row.ended, query.now);
  EXPECT_EQ(row.tokens.output, 0);
  EXPECT_EQ(row.time_to_first_token, std::nullopt);
  EXPECT_THAT(store_->GetUsage("ancient"), IsOk());
  EXPECT_THAT(store_->GetUsage("mine"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store_->GetUsage("neighbour"), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK_AND_ASSIGN(const UsageRow untouched, store_->GetUsage("finished"));
  EXPECT_EQ(untouched.outcome, UsageOutcome::kOk);

  // A late end of a request that was given up is not a second row.
  ASSERT_OK_AND_ASSIGN(const LedgerWritten late, store_->Append({TestUsage("dead")}));
  EXPECT_EQ(late.rows, 0);
  ASSERT_OK_AND_ASSIGN(const OrphansClosed again, store_->CloseOrphans(query, 100));
  EXPECT_EQ(again.abandoned + again.forgotten, 0);
}

TEST_P(LedgerTest, ManyOrphansAreClosedInBoundedParts) {
  std::vector<LedgerEvent> batch;
  for (int i = 0; i < 25; ++i) batch.push_back(TestAdmission(absl::StrCat("c", i)));
  ASSERT_THAT(store_->Append(batch), IsOk());
  const OrphanQuery query{.router = "router-0",
                          .incarnation = 1,
                          .admitted_before = absl::UnixEpoch(),
                          .now = TestTime()};
  int64_t abandoned = 0;
  for (int calls = 0; calls < 3; ++calls) {
    ASSERT_OK_AND_ASSIGN(const OrphansClosed closed, store_->CloseOrphans(query, 10));
    EXPECT_LE(closed.abandoned, 10);
    EXPECT_EQ(closed.more, calls < 2);
    abandoned += closed.abandoned;
  }
  EXPECT_EQ(abandoned, 25);
}

TEST_P(LedgerTest, UsageIsListedByItsEndAndFiltered) {
  std::vector<LedgerEvent> batch;
  for (int i = 0; i < 6; ++i) {
    UsageRow row = TestUsage(absl::StrCat("c", i));
    row.ended = TestTime() + absl::Hours(12) * (i / 2);  // 12:00, the next day's 00:00 and 12:00
    if (i == 5) row.party.model = "other";
    if (i == 4) row.party.product_id = "other";
    batch.insert(batch.begin(), row);
  }
  ASSERT_THAT(store_->Append(batch), IsOk());
  const auto list = [&](UsageFilter filter) {
    std::vector<std::string> ids;
    PageRequest request{.size = 2};
    do {
      const auto page = store_->ListUsage(filter, request);
      EXPECT_THAT(page, IsOk());
      if (!page.ok()) return ids;
      for (const UsageRow& row : page->items) ids.push_back(row.charge_id);
      request.cursor = page->next_cursor;
    } while (!request.cursor.empty());
    return ids;
  };
  const UsageDay day = UsageDayOf(TestTime());
  const auto next = static_cast<UsageDay>(static_cast<int64_t>(day) + 1);
  EXPECT_THAT(list({}), ElementsAre("c0", "c1", "c2", "c3", "c4", "c5"));
  EXPECT_THAT(list({.last_day = day}), ElementsAre("c0", "c1"));
  EXPECT_THAT(list({.first_day = next}), ElementsAre("c2", "c3", "c4", "c5"));
  EXPECT_THAT(list({.product_id = "acme-chat", .model = "smollm2"}),
              ElementsAre("c0", "c1", "c2", "c3"));
  EXPECT_THAT(list({.model = "none"}), IsEmpty());
}

TEST_P(LedgerTest, TotalsAreSetFromTheRowsHoweverOftenTheyAreRebuilt) {
  UsageRow other = TestUsage("c3");
  other.party.model = "other";
  other.currency = "";
  other.amount_nano = 0;
  UsageRow tomorrow = TestUsage("c4");
  tomorrow.ended += absl::Hours(24);
  ASSERT_THAT(store_->Append({TestUsage("c1"), TestUsage("c2"), other, tomorrow}), IsOk());
  const UsageDay day = UsageDayOf(TestTime());
  EXPECT_EQ(static_cast<int64_t>(day), 20780);
  for (int i = 0; i < 3; ++i) ASSERT_THAT(store_->RebuildTotals(day), IsOk());
  ASSERT_OK_AND_ASSIGN(const Page<UsageTotal> page, store_->ListTotals({}, {}));
  ASSERT_EQ(page.items.size(), 2);
  EXPECT_EQ(page.items[0].model, "other");
  EXPECT_EQ(page.items[0].requests, 1);
  EXPECT_EQ(page.items[1].model, "smollm2");
  EXPECT_EQ(page.items[1].product_id, "acme-chat");
  EXPECT_EQ(page.items[1].requests, 2);
  EXPECT_EQ(page.items[1].tokens.prompt, 200);
  EXPECT_EQ(page.items[1].tokens.cached, 128);
  EXPECT_EQ(page.items[1].tokens.output, 40);
  EXPECT_EQ(page.items[1].tokens.reasoning, 10);
  EXPECT_EQ(page.items[1].amount_nano, 144000);
  EXPECT_EQ(page.items[1].currency, "USD");

  ASSERT_OK_AND_ASSIGN(const Page<UsageTotal> first, store_->ListTotals({}, {.size = 1}));
  ASSERT_EQ(first.items.size(), 1);
  ASSERT_OK_AND_ASSIGN(const Page<UsageTotal> second,
                       store_->ListTotals({}, {.size = 1, .cursor = first.next_cursor}));
  ASSERT_EQ(second.items.size(), 1);
  EXPECT_EQ(second.items[0].model, "smollm2");
  EXPECT_EQ(second.next_cursor, "");
  ASSERT_OK_AND_ASSIGN(const Page<UsageTotal> none, store_->ListTotals({.model = "none"}, {}));
  EXPECT_THAT(none.items, IsEmpty());
}

TEST_P(LedgerTest, WritersAndReadersAtOnceLoseAndDoubleNothing) {
  constexpr int kWriters = 3, kBatches = 20, kBatch = 7;
  std::vector<std::thread> threads;
  std::vector<absl::Status> failures(kWriters + 1);
  for (int w = 0; w < kWriters; ++w) {
    threads.emplace_back([&, w] {
      for (int b = 0; b < kBatches; ++b) {
        std::vector<LedgerEvent> batch;
        // Each row is written by two writers.
        for (int i = 0; i < kBatch; ++i) {
          batch.push_back(TestUsage(absl::StrCat("c", (w + i % 2) % kWriters, "-", b, "-", i)));
        }
        failures[w].Update(ToStatus(store_->Append(batch)));
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 20; ++i) {
      failures[kWriters].Update(ToStatus(store_->ListUsage({}, {.size = 1000})));
      failures[kWriters].Update(store_->RebuildTotals(UsageDayOf(TestTime())));
    }
  });
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& failure : failures) ASSERT_THAT(failure, IsOk());
  ASSERT_THAT(store_->RebuildTotals(UsageDayOf(TestTime())), IsOk());
  ASSERT_OK_AND_ASSIGN(const Page<UsageTotal> page, store_->ListTotals({}, {}));
  ASSERT_EQ(page.items.size(), 1);
  EXPECT_EQ(page.items[0].requests, kWriters * kBatches * kBatch);
}

INSTANTIATE_TEST_SUITE_P(Stores, LedgerTest, EveryStore(), StoreName);

}  // namespace
}  // namespace tandem
