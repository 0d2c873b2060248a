#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace tandem {

// Runs one function on several threads at a time, the caller's among them. A worker that waits for
// the next function spins for a few tens of microseconds (waking a sleeper takes as long), then
// sleeps: an idle pool uses no CPU, and two processes that share the cores do not spin each other
// off them for long. A worker that does not get a core in time is not waited for.
//   threads Run() from one thread at a time
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // 1 or more; makes threads - 1
  ~ThreadPool();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls work(0) on this thread and, at the same time, work(i) on those workers i that come before
  // it is done; returns when none is inside `work` any more. So the calls share out what there is
  // to do among themselves, and whoever comes takes what is left.
  void Run(absl::FunctionRef<void(int thread)> work);

 private:
  using Work = absl::FunctionRef<void(int thread)>;
  void Serve(int thread);

  std::atomic<uint32_t> round_{0};  // odd while a function may be entered; grows
  std::atomic<int32_t> inside_{0};  // workers that are, or look whether they may be, inside it
  const Work* work_ = nullptr;      // of the open round; null: stop
  std::vector<std::jthread> workers_;
};

// Cores that this process may use.
int AvailableCores();

}  // namespace tandem
