#include "worker/backend/cpu/rope_table.h"

#include <cstddef>

namespace tandem {
namespace {

// Power series on [-pi / 4, pi / 4]; the first term left out is below 1e-19.
double SineSeries(double x) {
  const double square = x * x;
  double sum = 0;
  for (int n = 18; n >= 2; n -= 2) sum = (1 + sum) * (-square / (n * (n + 1)));
  return x + x * sum;
}

double CosineSeries(double x) {
  const double square = x * x;
  double sum = 0;
  for (int n = 17; n >= 1; n -= 2) sum = (1 + sum) * (-square / (n * (n + 1)));
  return 1 + sum;
}

}  // namespace

SinCosPair SinCos(float angle) {
  constexpr double kTwoOverPi = 0.63661977236758134308;
  constexpr double kHalfPiHigh = 0x1.921fb544p+0;  // its first 33 bits, so that products are exact
  constexpr double kHalfPiLow = 0x1.0b4611a626331p-34;
  const int64_t quarter = static_cast<int64_t>(angle * kTwoOverPi + 0.5);
  const double turns = static_cast<double>(quarter);
  const double rest = (angle - turns * kHalfPiHigh) - turns * kHalfPiLow;
  const float sine = static_cast<float>(SineSeries(rest));
  const float cosine = static_cast<float>(CosineSeries(rest));
  switch (quarter % 4) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

void RopeTable::Extend(int64_t end) {
  const size_t half = inv_freq_.size();
  while (static_cast<int64_t>(pages_.size()) * kPage < end) {
    const int64_t first = static_cast<int64_t>(pages_.size()) * kPage;
    std::vector<float>& page = pages_.emplace_back(kPage * 2 * half);
    for (int64_t p = 0; p < kPage; ++p) {
      for (size_t i = 0; i < half; ++i) {
        const SinCosPair pair = SinCos(static_cast<float>(first + p) * inv_freq_[i]);
        page[p * 2 * half + i] = pair.sine;
        page[p * 2 * half + half + i] = pair.cosine;
      }
    }
  }
}

}  // namespace tandem
