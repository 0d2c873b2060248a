#include "router/usage/orphan_closer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

// A store that has more to close than fits into one batch, and now and then does not answer.
class OrphanCloserTest : public testing::Test {
 protected:
  absl::StatusOr<OrphansClosed> Close(const OrphanQuery& query) {
    MutexLock lock(&mu_);
    asked_.push_back(query);
    changed_.NotifyAll();
    if (!answer_.ok()) return answer_;
    const int64_t now = std::min<int64_t>(orphans_, 2);
    orphans_ -= now;
    return OrphansClosed{.abandoned = now, .forgotten = now, .more = orphans_ > 0};
  }
  absl::StatusOr<std::unique_ptr<OrphanCloser>> Start() {
    OrphanCloser::Options options;
    options.router = "r1";
    options.incarnation = Incarnation{7};
    options.interval = absl::Milliseconds(1);
    options.request_life = absl::Hours(2);
    options.wall = &clock_;
    options.closed = [this](int64_t abandoned) { told_.push_back(abandoned); };
    return OrphanCloser::Start([this](const OrphanQuery& query, int) { return Close(query); },
                               options);
  }
  void Leave(int64_t orphans, absl::Status answer = absl::OkStatus()) {
    MutexLock lock(&mu_);
    orphans_ = orphans;
    answer_ = std::move(answer);
  }
  void AwaitAsked(size_t times) {
    MutexLock lock(&mu_);
    while (asked_.size() < times) changed_.Wait(&mu_);
  }

  FakeClock clock_;
  Mutex mu_;
  CondVar changed_;
  absl::Status answer_ ABSL_GUARDED_BY(mu_);
  int64_t orphans_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<OrphanQuery> asked_ ABSL_GUARDED_BY(mu_);
  std::vector<int64_t> told_;  // by Start, before there is a thread
};

TEST_F(OrphanCloserTest, AllOfAnEarlierLifeIsClosedBeforeItHasStarted) {
  Leave(5);
  ASSERT_OK_AND_ASSIGN(const auto closer, Start());
  EXPECT_THAT(told_, testing::ElementsAre(2, 2, 1));
  MutexLock lock(&mu_);
  EXPECT_EQ(orphans_, 0);
  EXPECT_EQ(asked_[0].router, "r1");
  EXPECT_EQ(asked_[0].incarnation, 7u);
  EXPECT_EQ(asked_[0].now, clock_.Now());
  EXPECT_EQ(asked_[0].admitted_before, clock_.Now() - absl::Hours(2));
}

TEST_F(OrphanCloserTest, AStoreThatDoesNotAnswerAtTheStartIsAnError) {
  Leave(0, absl::UnavailableError("gone"));
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kUnavailable, "gone"));
}

TEST_F(OrphanCloserTest, ItLooksAgainAndOutlivesAStoreThatIsAway) {
  ASSERT_OK_AND_ASSIGN(const auto closer, Start());
  AwaitAsked(3);
  {
    MutexLock lock(&mu_);
    answer_ = absl::UnavailableError("gone");
    asked_.clear();
  }
  AwaitAsked(3);
  MutexLock lock(&mu_);
  answer_ = absl::OkStatus();
  orphans_ = 1;
  while (orphans_ > 0) changed_.Wait(&mu_);
}

}  // namespace
}  // namespace tandem
