#include "router/store/store_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "router/store/sqlite_store.h"
#include "tests/router/store/store_records.h"
#include "tests/support/captured_log.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

class StoreFeedTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = OpenSqliteStore({.path = folder_.path() + "/store.db"});
    ASSERT_THAT(opened, IsOk());
    store_ = *std::move(opened);
  }
  void Start(int page = 1000) {
    StoreFeed::Source source = StoreFeed::SourceOf(store_.get());
    source.revision = [this, ask = source.revision]() -> absl::StatusOr<int64_t> {
      if (away_) return absl::UnavailableError("the server is gone");
      return ask();
    };
    auto started = StoreFeed::Start(std::move(source), &clock_, {absl::Milliseconds(1), page},
                                    [this](const Changes& changes) { Apply(changes); });
    ASSERT_THAT(started, IsOk());
    feed_ = *std::move(started);
  }
  void Commit(const std::string& request_id, std::vector<Record> records) {
    ASSERT_THAT(store_->Commit(TestChange(request_id, std::move(records))), IsOk());
  }
  void Apply(const Changes& changes) {
    MutexLock lock(&mu_);
    ++applied_;
    for (const Record& record : changes.records) {
      if (const auto* key = std::get_if<Key>(&record)) keys_[key->id] = *key;
    }
    changed_.NotifyAll();
  }
  // As soon as it is there, or not after 20 s.
  bool AwaitRevoked(const std::string& id) {
    MutexLock lock(&mu_);
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!keys_[id].revoked_at && absl::Now() < deadline) {
      changed_.WaitFor(&mu_, absl::Milliseconds(100));
    }
    return keys_[id].revoked_at.has_value();
  }
  size_t keys() {
    MutexLock lock(&mu_);
    return keys_.size();
  }
  int applied() {
    MutexLock lock(&mu_);
    return applied_;
  }

  const ScratchFolder folder_;
  FakeClock clock_;
  std::atomic<bool> away_ = false;
  std::unique_ptr<Store> store_;
  Mutex mu_;
  CondVar changed_;
  std::map<std::string, Key> keys_ ABSL_GUARDED_BY(mu_);
  int applied_ ABSL_GUARDED_BY(mu_) = 0;
  std::unique_ptr<StoreFeed> feed_;  // destroyed first
};

TEST_F(StoreFeedTest, AllIsThereWhenItHasStarted) {
  Commit("tenants", {TestOrganisation("acme"), TestProduct("chat", "acme")});
  for (int i = 0; i < 10; ++i) {
    Commit(absl::StrCat("key", i), {TestKey(absl::StrCat("k", i), "chat")});
  }
  Start(3);
  EXPECT_EQ(keys(), 10u);
  EXPECT_GE(applied(), 4) << "page by page";
}

TEST_F(StoreFeedTest, ARevokedKeyIsHeardOf) {
  Commit("one", {TestOrganisation("acme"), TestProduct("chat", "acme"), TestKey("k", "chat")});
  Start();
  ASSERT_OK_AND_ASSIGN(Key key, store_->GetKey("k"));
  key.revoked_at = TestTime();
  Commit("two", {key});
  EXPECT_TRUE(AwaitRevoked("k"));
}

TEST_F(StoreFeedTest, AStoreThatIsAwayIsToldOfOnceAndWhatWasKnownStays) {
  Commit("one", {TestOrganisation("acme"), TestProduct("chat", "acme"), TestKey("k", "chat")});
  Start();
  const CapturedLog log;
  away_ = true;
  EXPECT_THAT(log.Await("does not answer"), HasSubstr("the server is gone"));
  clock_.Advance(absl::Seconds(9));
  EXPECT_EQ(feed_->behind(), absl::Seconds(9));
  EXPECT_EQ(keys(), 1u);
  ASSERT_OK_AND_ASSIGN(Key key, store_->GetKey("k"));
  key.revoked_at = TestTime();
  Commit("two", {key});
  away_ = false;
  EXPECT_TRUE(AwaitRevoked("k"));
  const std::string told = log.Await("answers again");
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(told, "does not answer")).size(), 2u) << told;
  while (feed_->behind() >= absl::Seconds(9)) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(StoreFeedTest, AnEmptyStoreIsNoError) {
  Start();
  EXPECT_EQ(keys(), 0u);
  EXPECT_EQ(applied(), 0);
}

}  // namespace
}  // namespace tandem
