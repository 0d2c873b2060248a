#include "worker/backend/cpu/thread_pool.h"

#include <immintrin.h>
#include <sched.h>

#include <chrono>

namespace tandem {
namespace {

constexpr std::chrono::microseconds kSpinTime{50};
constexpr int kPausesPerLook = 64;  // between looks at the clock

// Returns when `value` is no longer `old`.
template <typename T>
T WaitForChange(const std::atomic<T>& value, T old) {
  T now = value.load(std::memory_order_acquire);
  if (now != old) return now;
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      now = value.load(std::memory_order_acquire);
      if (now != old) return now;
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int thread = 1; thread < threads; ++thread) {
    workers_.emplace_back([this, thread] { Serve(thread); });
  }
}

ThreadPool::~ThreadPool() {
  work_ = nullptr;
  round_.fetch_add(1);
  round_.notify_all();
}

void ThreadPool::Run(Work work) {
  if (workers_.empty()) return work(0);
  work_ = &work;
  round_.fetch_add(1);
  round_.notify_all();
  work(0);
  round_.fetch_add(1);
  // A worker counts itself before it looks whether the round is open, and both are sequentially
  // consistent: either it is counted here, or it finds the round closed.
  for (int32_t inside = inside_.load(); inside != 0;) inside = WaitForChange(inside_, inside);
}

void ThreadPool::Serve(int thread) {
  uint32_t seen = 0;
  for (bool stop = false; !stop;) {
    seen = WaitForChange(round_, seen);
    if (seen % 2 == 0) continue;
    inside_.fetch_add(1);
    if (round_.load() == seen) {
      stop = work_ == nullptr;
      if (!stop) (*work_)(thread);
    }
    if (inside_.fetch_sub(1) == 1) inside_.notify_all();
  }
}

int AvailableCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return 1;
  return CPU_COUNT(&cores);
}

}  // namespace tandem
