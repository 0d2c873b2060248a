#include "base/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace tandem {
namespace {

class AnchoredClock final : public Clock {
 public:
  absl::Time Now() const override {
    return wall_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_);
  }

 private:
  const absl::Time wall_ = absl::Now();
  const std::chrono::steady_clock::time_point steady_ = std::chrono::steady_clock::now();
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
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
