#pragma once
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "client/bench/worker_pages.h"

namespace tandem::bench {

// Reads workers' pages of metrics again and again, on a thread of its own, until it is stopped.
//   errors  of Start: a page that can't be read, by its address. Later ones are left out
class LoadProbe {
 public:
  // `workers`: host:port of each one's metrics.
  static absl::StatusOr<std::unique_ptr<LoadProbe>> Start(std::vector<std::string> workers);
  ~LoadProbe() { Stop(); }
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);
  // What each worker did from `from` to `to`, give or take the time between two pages. Those with
  // fewer than two pages are left out. After Stop().
  std::vector<WorkerReport> Reports(absl::Time from, absl::Time to) const;

 private:
  explicit LoadProbe(std::vector<std::string> workers)
      : workers_(std::move(workers)), pages_(workers_.size()) {}
  absl::Status Read();
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);

  const std::vector<std::string> workers_;
  std::vector<std::vector<WorkerPage>> pages_;  // of each worker; the thread's while it runs
  std::thread thread_;

  Mutex mu_;
  CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::bench
