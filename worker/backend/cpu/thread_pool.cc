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
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
}

void ThreadPool::Run(Work work) {
  if (!workers_.empty()) {
    work_ = &work;
    working_.store(static_cast<int32_t>(workers_.size()), std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }
  work(0);
  for (int32_t left = working_.load(std::memory_order_acquire); left != 0;) {
    left = WaitForChange(working_, left);
  }
}

void ThreadPool::Serve(int thread) {
  uint32_t seen = 0;
  while (true) {
    seen = WaitForChange(round_, seen);
    if (work_ == nullptr) return;
    (*work_)(thread);
    if (working_.fetch_sub(1, std::memory_order_acq_rel) == 1) working_.notify_all();
  }
}

int AvailableCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return 1;
  return CPU_COUNT(&cores);
}

}  // namespace tandem
