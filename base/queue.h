#pragma once
#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"

namespace tandem {

// Messages from many threads to one consumer, which takes them in batches.
//   shape   first in, first out, at most `capacity` items
//   errors  a full or closed queue refuses an item and leaves it with the caller
//   life    Close() ends it: pushes fail, and what is queued can still be popped
//   threads any may push and close; one thread pops. No call is made with the lock held
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // False when full or closed: `item` is then untouched.
  [[nodiscard]] bool TryPush(T&& item) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(&mu_);
      if (closed_ || items_.size() >= capacity_) return false;
      items_.push_back(std::move(item));
    }
    arrived_.NotifyOne();
    return true;
  }

  // Everything that is queued, oldest first. Waits up to `timeout` for a first item; returns empty
  // when none came, and at once when the queue is closed. A zero timeout never waits.
  std::vector<T> PopAll(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_) {
    const auto start = std::chrono::steady_clock::now();
    MutexLock lock(&mu_);
    while (items_.empty() && !closed_) {
      const absl::Duration left =
          timeout - absl::FromChrono(std::chrono::steady_clock::now() - start);
      if (left <= absl::ZeroDuration()) break;
      if (left == absl::InfiniteDuration()) {
        arrived_.Wait(&mu_);
      } else {
        arrived_.WaitFor(&mu_, left);
      }
    }
    return std::exchange(items_, {});
  }

  void Close() ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(&mu_);
      closed_ = true;
    }
    arrived_.NotifyAll();
  }

  bool closed() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(&mu_);
    return closed_;
  }
  size_t size() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(&mu_);
    return items_.size();
  }

 private:
  const size_t capacity_;
  CondVar arrived_;
  mutable Mutex mu_;
  std::vector<T> items_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem
