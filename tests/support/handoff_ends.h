#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "kvstore/handoff/handoff.h"

namespace tandem {

// What a handoff's `done` was called with, and how often.
template <typename Result>
class HandoffEnd {
 public:
  std::function<void(absl::StatusOr<Result>)> Callback() {
    return [this](absl::StatusOr<Result> result) {
      MutexLock lock(&mu_);
      ++calls_;
      // A status of its own: ThreadSanitizer does not see into the library that counts the users
      // of a shared one.
      if (result.ok()) result_ = *std::move(result);
      if (!result.ok()) result_ = absl::Status(result.status().code(), result.status().message());
      changed_.NotifyAll();
    };
  }
  // Waits up to 20 s.
  absl::StatusOr<Result> Wait() {
    MutexLock lock(&mu_);
    const absl::Time deadline = RealClock()->Now() + absl::Seconds(20);
    while (!result_.has_value() && RealClock()->Now() < deadline) {
      changed_.WaitFor(&mu_, absl::Milliseconds(200));
    }
    if (!result_.has_value()) return absl::UnknownError("done was not called within 20 s");
    return *result_;
  }
  int calls() {
    MutexLock lock(&mu_);
    return calls_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::optional<absl::StatusOr<Result>> result_ ABSL_GUARDED_BY(mu_);
  int calls_ ABSL_GUARDED_BY(mu_) = 0;
};

inline std::vector<BlockId> BlocksFrom(uint32_t first, uint32_t count) {
  std::vector<BlockId> blocks;
  for (uint32_t i = 0; i < count; ++i) blocks.push_back(BlockId{first + i});
  return blocks;
}

}  // namespace tandem
