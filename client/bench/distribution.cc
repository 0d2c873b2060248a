#include "client/bench/distribution.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tandem::bench {

double Percentile(absl::Span<const double> ascending, double percent) {
  const double rank = percent / 100 * static_cast<double>(ascending.size() - 1);
  const size_t below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, ascending.size() - 1);
  const double share = rank - static_cast<double>(below);
  return ascending[below] + share * (ascending[above] - ascending[below]);
}

Distribution Describe(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const double count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {.count = values.size(),
          .mean = mean,
          .deviation = std::sqrt(squares / count),
          .min = values.front(),
          .p50 = Percentile(values, 50),
          .p75 = Percentile(values, 75),
          .p90 = Percentile(values, 90),
          .p95 = Percentile(values, 95),
          .p99 = Percentile(values, 99),
          .max = values.back()};
}

}  // namespace tandem::bench
