#include "base/clock.h"

#include <chrono>

namespace tandem {
namespace {

// absl::Now() may be behind by seconds when the system's time was set.
absl::Time SystemNow() { return absl::FromChrono(std::chrono::system_clock::now()); }

class AnchoredClock final : public Clock {
 public:
  absl::Time Now() const override {
    return wall_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_);
  }

 private:
  const absl::Time wall_ = SystemNow();
  const std::chrono::steady_clock::time_point steady_ = std::chrono::steady_clock::now();
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return SystemNow(); }
};

}  // namespace

const Clock* RealClock() {
  static const AnchoredClock* const clock = new AnchoredClock;
  return clock;
}

const Clock* WallClock() {
  static const SystemClock* const clock = new SystemClock;
  return clock;
}

}  // namespace tandem
