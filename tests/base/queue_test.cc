#include "base/queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(BoundedQueue, KeepsOrderAndGivesAllAtOnce) {
  BoundedQueue<int> queue(8);
  for (int i : {3, 1, 2}) ASSERT_TRUE(queue.TryPush(std::move(i)));
  EXPECT_EQ(queue.size(), 3);
  EXPECT_THAT(queue.PopAll(absl::ZeroDuration()), ElementsAre(3, 1, 2));
  EXPECT_EQ(queue.size(), 0);
}

TEST(BoundedQueue, RefusesWhatDoesNotFitAndLeavesItWithTheCaller) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  ASSERT_TRUE(queue.TryPush(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(queue.TryPush(std::move(second)));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, 2);
  EXPECT_EQ(queue.PopAll(absl::ZeroDuration()).size(), 1);
  EXPECT_TRUE(queue.TryPush(std::move(second)));
}

TEST(BoundedQueue, ReturnsEmptyWhenTheTimeIsUp) {
  BoundedQueue<int> queue(1);
  EXPECT_THAT(queue.PopAll(absl::ZeroDuration()), IsEmpty());
  EXPECT_THAT(queue.PopAll(absl::Milliseconds(2)), IsEmpty());
}

TEST(BoundedQueue, ClosedStillGivesWhatItHoldsAndTakesNoMore) {
  BoundedQueue<int> queue(4);
  ASSERT_TRUE(queue.TryPush(7));
  queue.Close();
  EXPECT_TRUE(queue.closed());
  EXPECT_FALSE(queue.TryPush(8));
  EXPECT_THAT(queue.PopAll(absl::InfiniteDuration()), ElementsAre(7));
  EXPECT_THAT(queue.PopAll(absl::InfiniteDuration()), IsEmpty());
}

TEST(BoundedQueue, CloseWakesTheConsumer) {
  BoundedQueue<int> queue(4);
  std::jthread closer([&] { queue.Close(); });
  EXPECT_THAT(queue.PopAll(absl::InfiniteDuration()), IsEmpty());
}

TEST(BoundedQueue, ManyProducersLoseNothingAndEachKeepsItsOrder) {
  constexpr int kThreads = 4, kEach = 5000;
  BoundedQueue<std::pair<int, int>> queue(64);
  std::vector<std::jthread> producers;
  for (int t = 0; t < kThreads; ++t) {
    producers.emplace_back([&queue, t] {
      for (int i = 0; i < kEach; ++i) {
        while (!queue.TryPush({t, i})) std::this_thread::yield();
      }
    });
  }
  std::vector<int> next(kThreads, 0);
  for (int got = 0; got < kThreads * kEach;) {
    for (const auto& [thread, i] : queue.PopAll(absl::InfiniteDuration())) {
      ASSERT_EQ(i, next[thread]++);
      ++got;
    }
  }
  EXPECT_THAT(queue.PopAll(absl::ZeroDuration()), IsEmpty());
}

}  // namespace
}  // namespace tandem
