#include "worker/engine/rate.h"

#include <algorithm>
#include <cmath>

namespace tandem {
namespace {

constexpr double kMemorySeconds = 5;
constexpr absl::Duration kStale = absl::Seconds(10);

}  // namespace

void RateMeter::Add(double tokens, absl::Duration busy, absl::Time now) {
  const double keep = std::exp(-absl::ToDoubleSeconds(now - last_) / kMemorySeconds);
  tokens_ = tokens_ * keep + tokens;
  seconds_ = seconds_ * keep + std::max(absl::ToDoubleSeconds(busy), 1e-6);
  last_ = now;
}

float RateMeter::PerSecond(absl::Time now) const {
  return now - last_ > kStale ? 0.0f : static_cast<float>(Last());
}

}  // namespace tandem
