#pragma once
#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace tandem::bench {

// What is said of many measured values; all 0 where there are none.
struct Distribution {
  size_t count = 0;
  double mean = 0;
  double deviation = 0;  // of the values, not of their mean
  double min = 0, p50 = 0, p75 = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
};

// `percent` from 0 to 100 of ascending values, at least one: linear between the two values around
// rank percent / 100 * (n - 1), as numpy.percentile and so the benches of other servers have it.
double Percentile(absl::Span<const double> ascending, double percent);

Distribution Describe(std::vector<double> values);

}  // namespace tandem::bench
