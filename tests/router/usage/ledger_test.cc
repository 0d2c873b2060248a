#include "router/usage/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <set>

#include "absl/strings/str_cat.h"
#include "router/store/sqlite_store.h"
#include "tests/router/store/store_records.h"
#include "tests/support/fake_clock.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

// A store that can be held up, and that can fail.
class FakeAppend {
 public:
  absl::StatusOr<LedgerWritten> Append(absl::Span<const LedgerEvent> events) {
    MutexLock lock(&mu_);
    ++calls_;
    changed_.NotifyAll();
    while (held_) changed_.Wait(&mu_);
    if (!fails_.ok()) return fails_;
    for (const LedgerEvent& event : events) {
      const auto* row = std::get_if<UsageRow>(&event);
      if (row != nullptr && row->model_revision == "poison") {
        return absl::InvalidArgumentError("poison");
      }
    }
    batches_.push_back(events.size());
    for (const LedgerEvent& event : events) {
      written_.insert(
          absl::StrCat(event.index(), std::visit([](auto& e) { return e.charge_id; }, event)));
    }
    return LedgerWritten();
  }
  void Hold(bool held) {
    MutexLock lock(&mu_);
    held_ = held;
    changed_.NotifyAll();
  }
  void Fail(absl::Status status) {
    MutexLock lock(&mu_);
    fails_ = std::move(status);
  }
  // Until so many calls were begun.
  void AwaitCalls(int calls) {
    MutexLock lock(&mu_);
    while (calls_ < calls) changed_.Wait(&mu_);
  }
  int calls() {
    MutexLock lock(&mu_);
    return calls_;
  }
  std::multiset<std::string> written() {
    MutexLock lock(&mu_);
    return written_;
  }
  std::vector<size_t> batches() {
    MutexLock lock(&mu_);
    return batches_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status fails_ ABSL_GUARDED_BY(mu_);
  int calls_ ABSL_GUARDED_BY(mu_) = 0;
  std::multiset<std::string> written_ ABSL_GUARDED_BY(mu_);
  std::vector<size_t> batches_ ABSL_GUARDED_BY(mu_);
};

class LedgerTest : public testing::Test {
 protected:
  void Open(Ledger::Options options) {
    options.retry = absl::Milliseconds(1);
    auto made =
        Ledger::Create([this](auto events) { return store_.Append(events); }, &clock_, options);
    ASSERT_THAT(made, IsOk());
    ledger_ = *std::move(made);
  }
  std::future<absl::Status> Admit(const std::string& id) {
    auto told = std::make_shared<std::promise<absl::Status>>();
    ledger_->Admit(TestAdmission(id), [told](const absl::Status& s) { told->set_value(s); });
    return told->get_future();
  }
  std::future<absl::Status> Finish(UsageRow row) {
    auto told = std::make_shared<std::promise<absl::Status>>();
    ledger_->Finish(std::move(row), [told](const absl::Status& s) { told->set_value(s); });
    return told->get_future();
  }

  FakeClock clock_;
  FakeAppend store_;
  std::unique_ptr<Ledger> ledger_;  // destroyed first
};

TEST_F(LedgerTest, WhatComesDuringACommitIsInTheNext) {
  Open({});
  store_.Hold(true);
  std::vector<std::future<absl::Status>> told;
  told.push_back(Admit("first"));
  store_.AwaitCalls(1);
  for (int i = 0; i < 100; ++i) told.push_back(Admit(absl::StrCat(i)));
  EXPECT_EQ(told[0].wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  store_.Hold(false);
  for (auto& one : told) EXPECT_THAT(one.get(), IsOk());
  EXPECT_THAT(store_.batches(), testing::ElementsAre(1, 100));
}

TEST_F(LedgerTest, AdmissionsAreRefusedWhileTooManyWaitAndRowsNever) {
  Open({.queue = 2});
  store_.Hold(true);
  auto first = Admit("first");
  store_.AwaitCalls(1);
  auto second = Admit("second"), third = Admit("third");
  EXPECT_THAT(Admit("fourth").get(),
              StatusIs(Code::kUnavailable, HasSubstr("behind: 2 events wait")));
  auto row = Finish(TestUsage("first"));
  store_.Hold(false);
  for (auto* one : {&first, &second, &third, &row}) EXPECT_THAT(one->get(), IsOk());
}

TEST_F(LedgerTest, AStoreThatIsAwayForAMomentLosesNothing) {
  Open({});
  store_.Fail(absl::UnavailableError("the server is gone"));
  auto admitted = Admit("a"), finished = Finish(TestUsage("b"));
  store_.AwaitCalls(5);
  store_.Fail(absl::OkStatus());
  EXPECT_THAT(admitted.get(), IsOk());
  EXPECT_THAT(finished.get(), IsOk());
  EXPECT_EQ(store_.written(), (std::multiset<std::string>{"0a", "1b"}));
}

TEST_F(LedgerTest, AStoreThatStaysAwayFailsAdmissionsAndRowsAreWrittenWhenItIsBack) {
  Open({.patience = absl::Seconds(5)});
  store_.Fail(absl::ResourceExhaustedError("the disk is full"));
  auto admitted = Admit("a"), finished = Finish(TestUsage("b"));
  store_.AwaitCalls(2);
  clock_.Advance(absl::Seconds(5));
  for (auto* one : {&admitted, &finished}) {
    EXPECT_THAT(one->get(), StatusIs(Code::kUnavailable, HasSubstr("the disk is full")));
  }
  EXPECT_TRUE(store_.written().empty());
  store_.Fail(absl::OkStatus());
  EXPECT_EQ(ledger_->Stop(clock_.Now() + absl::Hours(1)), 0u);
  EXPECT_EQ(store_.written(), std::multiset<std::string>{"1b"});
}

TEST_F(LedgerTest, AnEventThatIsWrongSpoilsNoOther) {
  Open({});
  EXPECT_THAT(Admit("").get(), StatusIs(Code::kInvalidArgument, HasSubstr("charge_id")));
  EXPECT_EQ(store_.calls(), 0);
  store_.Hold(true);
  auto first = Admit("first");
  store_.AwaitCalls(1);
  UsageRow poison = TestUsage("p");
  poison.model_revision = "poison";
  auto before = Admit("before"), bad = Finish(poison), after = Admit("after");
  store_.Hold(false);
  EXPECT_THAT(bad.get(), StatusIs(Code::kInvalidArgument));
  for (auto* one : {&first, &before, &after}) EXPECT_THAT(one->get(), IsOk());
  EXPECT_EQ(store_.written(), (std::multiset<std::string>{"0first", "0before", "0after"}));
  EXPECT_EQ(ledger_->Stop(clock_.Now()), 1u) << "the row that is lost is counted";
}

TEST_F(LedgerTest, StoppedItWritesWhatItHasAndTakesNothingMore) {
  Open({});
  store_.Hold(true);
  auto first = Admit("first");
  store_.AwaitCalls(1);
  auto second = Finish(TestUsage("second"));
  std::thread stop([this] { EXPECT_EQ(ledger_->Stop(clock_.Now() + absl::Hours(1)), 0u); });
  store_.Hold(false);
  stop.join();
  EXPECT_THAT(first.get(), IsOk());
  EXPECT_THAT(second.get(), IsOk());
  EXPECT_THAT(Admit("late").get(), StatusIs(Code::kUnavailable, HasSubstr("closed")));
}

TEST_F(LedgerTest, StoppedWithoutItsStoreItSaysHowManyRowsAreLost) {
  Open({});
  store_.Fail(absl::UnavailableError("gone"));
  auto admitted = Admit("a"), one = Finish(TestUsage("b")), other = Finish(TestUsage("c"));
  store_.AwaitCalls(1);
  EXPECT_EQ(ledger_->Stop(clock_.Now()), 2u);
  for (auto* told : {&admitted, &one, &other}) {
    EXPECT_THAT(told->get(), StatusIs(Code::kUnavailable, HasSubstr("gone")));
  }
}

TEST(Ledger, WhatItSaysIsWrittenIsInTheFile) {
  const ScratchFolder folder;
  const std::string path = folder.path() + "/store.db";
  constexpr int kThreads = 4, kCalls = 50;
  {
    ASSERT_OK_AND_ASSIGN(const auto store, OpenSqliteStore({.path = path}));
    ASSERT_OK_AND_ASSIGN(
        const auto ledger,
        Ledger::Create([&store](auto events) { return store->Append(events); }, RealClock(), {}));
    std::vector<std::thread> callers;
    for (int t = 0; t < kThreads; ++t) {
      callers.emplace_back([&ledger, t] {
        for (int i = 0; i < kCalls; ++i) {
          const std::string id = absl::StrCat(t, "-", i);
          const auto admitted = std::make_shared<std::promise<absl::Status>>();
          const auto finished = std::make_shared<std::promise<absl::Status>>();
          ledger->Admit(TestAdmission(id), [=](const auto& s) { admitted->set_value(s); });
          EXPECT_THAT(admitted->get_future().get(), IsOk());
          ledger->Finish(TestUsage(id), [=](const auto& s) { finished->set_value(s); });
          EXPECT_THAT(finished->get_future().get(), IsOk());
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
  }
  ASSERT_OK_AND_ASSIGN(const auto store, OpenSqliteStore({.path = path}));
  ASSERT_OK_AND_ASSIGN(const auto page, store->ListUsage({}, {.size = 1000}));
  EXPECT_EQ(page.items.size(), kThreads * kCalls);
}

}  // namespace
}  // namespace tandem
