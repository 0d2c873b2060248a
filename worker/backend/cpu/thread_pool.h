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
// off them for long.
//   threads Run() from one thread at a time
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // 1 or more; makes threads - 1
  ~ThreadPool();

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls work(thread) on each thread, in [0, threads), and returns when all have returned.
  void Run(absl::FunctionRef<void(int thread)> work);

 private:
  using Work = absl::FunctionRef<void(int thread)>;
  void Serve(int thread);

  std::atomic<uint32_t> round_{0};   // grows with each Run
  std::atomic<int32_t> working_{0};  // workers still inside the round
  const Work* work_ = nullptr;       // of the round; null: stop
  std::vector<std::jthread> workers_;
};

// Cores that this process may use.
int AvailableCores();

}  // namespace tandem
