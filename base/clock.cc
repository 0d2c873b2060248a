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

}  // namespace

const Clock* RealClock() {
  static const AnchoredClock* const clock = new AnchoredClock;
  return clock;
}

}  // namespace tandem
