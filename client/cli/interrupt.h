#pragma once
#include <functional>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace tandem::cli {

// Calls back once, on a thread of its own, when SIGINT or SIGTERM comes; another one ends the
// process at once.
//   life    until it is destroyed; PrepareSignals() (base/process.h) must have been called
class Interrupt {
 public:
  static absl::StatusOr<std::unique_ptr<Interrupt>> Watch(std::function<void()> callback);
  ~Interrupt();

 private:
  explicit Interrupt(std::function<void()> callback) : callback_(std::move(callback)) {}
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);
  bool finished() ABSL_LOCKS_EXCLUDED(mu_);

  const std::function<void()> callback_;
  std::thread thread_;
  Mutex mu_;
  CondVar changed_;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::cli
