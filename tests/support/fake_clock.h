#pragma once
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace tandem {

// A clock that moves only when the test says so. Starts at a fixed, round moment.
//   threads any
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(&mu_);
    return now_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(&mu_);
    now_ += by;
  }

 private:
  mutable Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_) = absl::FromUnixSeconds(1'800'000'000);
};

}  // namespace tandem
