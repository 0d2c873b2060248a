#pragma once
#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace tandem {

// A few threads for rendering and tokenising, which take too long for an event loop.
//   life    jobs that wait when the pool ends are still run; each runs exactly once
//   errors  a full queue refuses a job, which then never runs
//   threads any may call Run; jobs run on the pool's, several at once
class PromptPool {
 public:
  struct Options {
    int threads = 2;
    size_t max_queue = 1024;  // jobs that wait
  };
  explicit PromptPool(Options options);
  ~PromptPool();

  [[nodiscard]] bool TryRun(std::function<void()> job) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  Mutex mu_;
  CondVar wake_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::jthread> threads_;
};

}  // namespace tandem
