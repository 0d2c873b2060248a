#pragma once
#include <time.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "base/clock.h"

// How fast something moves bytes, over some rounds.
namespace tandem {

inline constexpr int kRounds = 7;

struct Figures {
  double low = 0, median = 0, high = 0;  // GB/s
  double cpu = 0;                        // seconds of all threads a GB: what a busy machine shows
};

inline double CpuSeconds() {
  timespec used{};
  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return absl::ToDoubleSeconds(absl::DurationFromTimespec(used));
}

// The rates of rounds of `work`, which moves `bytes` in each.
class Rates {
 public:
  Rates(double bytes, std::function<void()> work) : bytes_(bytes), work_(std::move(work)) {}

  void Round() {
    const absl::Time start = RealClock()->Now();
    const double cpu_start = CpuSeconds();
    work_();
    cpu_ += CpuSeconds() - cpu_start;
    rates_.push_back(bytes_ / absl::ToDoubleNanoseconds(RealClock()->Now() - start));
  }
  void WarmUp() { work_(); }

  Figures figures() const {
    std::vector<double> sorted = rates_;
    std::sort(sorted.begin(), sorted.end());
    return {sorted.front(), sorted[sorted.size() / 2], sorted.back(),
            cpu_ / double(sorted.size()) / (bytes_ / 1e9)};
  }

 private:
  const double bytes_;
  const std::function<void()> work_;
  std::vector<double> rates_;
  double cpu_ = 0;
};

// One round that does not count, then some that do.
inline Figures Measure(double bytes, std::function<void()> work) {
  Rates rates(bytes, std::move(work));
  rates.WarmUp();
  for (int round = 0; round < kRounds; ++round) rates.Round();
  return rates.figures();
}

}  // namespace tandem
