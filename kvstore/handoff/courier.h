#pragma once
#include <functional>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"

namespace tandem {

// Makes a state holder's calls out, so that none is made with its lock held and all are made in the
// order that they were decided in; and gives it a regular tick for its timers.
//   life    Stop() runs what was posted and ends the thread; tasks posted later are dropped
//   threads Post by any, also with locks held; tasks and ticks run on the courier's own thread
class Courier {
 public:
  // Calls `tick` about every `interval`. Nothing runs before Start.
  Courier(absl::Duration interval, std::function<void()> tick);
  ~Courier();
  void Start();
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);
  void Post(std::function<void()> task) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run();

  const absl::Duration interval_;
  const std::function<void()> tick_;
  Mutex mu_;
  CondVar posted_;
  std::vector<std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tandem
