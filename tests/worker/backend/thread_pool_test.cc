#include "worker/backend/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

namespace tandem {
namespace {

TEST(ThreadPool, WhatThreadsShareIsDoneOnceWhenRunReturns) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int round = 0; round < 2000; ++round) {
      std::vector<int> done(20);
      std::atomic<int> next{0};
      pool.Run([&](int) {
        for (int i = next++; i < 20; i = next++) ++done[i];
      });
      ASSERT_EQ(done, std::vector<int>(20, 1));
    }
  }
}

TEST(ThreadPool, AThreadEntersAFunctionAtMostOnce) {
  ThreadPool pool(4);
  for (int round = 0; round < 2000; ++round) {
    std::array<int, 4> calls = {};  // each thread writes its own
    pool.Run([&](int thread) { ++calls[thread]; });
    ASSERT_EQ(calls[0], 1);
    ASSERT_LE(*std::max_element(calls.begin(), calls.end()), 1);
  }
}

// The function ends when all threads have met in it, so this ends only if sleepers are woken.
TEST(ThreadPool, WorkersThatSleptWakeForTheNextFunction) {
  ThreadPool pool(3);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // far longer than workers spin
    std::atomic<int> met{0};
    pool.Run([&](int) {
      for (++met; met < 3;) std::this_thread::yield();
    });
    EXPECT_EQ(met, 3);
  }
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
