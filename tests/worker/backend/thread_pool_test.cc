#include "worker/backend/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <ctime>
#include <thread>
#include <vector>

namespace tandem {
namespace {

TEST(ThreadPool, EveryThreadRunsEachFunctionOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    std::vector<int> calls(threads);  // each thread writes its own
    for (int round = 1; round <= 300; ++round) {
      pool.Run([&](int thread) { ++calls[thread]; });
      ASSERT_EQ(calls, std::vector<int>(threads, round));
    }
  }
}

TEST(ThreadPool, WorkersThatSleptWakeForTheNextFunction) {
  ThreadPool pool(3);
  std::atomic<int> calls{0};
  for (int round = 0; round < 3; ++round) {
    // Far longer than workers spin: nothing but their waking up makes the next round end.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    pool.Run([&](int) { ++calls; });
  }
  EXPECT_EQ(calls, 9);
}

TEST(ThreadPool, AnIdlePoolUsesNoCpu) {
  ThreadPool pool(4);
  pool.Run([](int) {});
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(used, 0.02);
}

}  // namespace
}  // namespace tandem
