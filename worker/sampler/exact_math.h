#pragma once
#include <bit>
#include <cstdint>

#include "absl/types/span.h"

// exp and log out of additions, multiplications and divisions alone (compiled with
// -ffp-contract=off), because libm's differ in their last bit from one CPU or version to the next.
// Both are within 2 ulp of the true value.
namespace tandem {

// ln(2) in two parts: whole numbers up to 2^20 times the first are exact.
inline constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;

// exp(x) for x <= 0; 0 below -700.
inline double ExactExp(double x) {
  constexpr double kLog2E = 0x1.71547652b82fep0;
  constexpr double kRound = 0x1.8p52;  // added, it leaves the nearest integer in the low bits
  const double clamped = x < -700.0 ? -700.0 : x;
  const double rounded = clamped * kLog2E + kRound;
  const double k = rounded - kRound;
  const double r = (clamped - k * kLn2High) - k * kLn2Low;
  double p = 1.0 / 6227020800.0;  // Taylor's series to r^13 / 13!, |r| <= ln(2) / 2
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const double scale = std::bit_cast<double>((std::bit_cast<uint64_t>(rounded) + 1023) << 52);
  return x < -700.0 ? 0.0 : p * scale;
}

// The natural logarithm of a normal x > 0.
inline double ExactLog(double x) {
  constexpr uint64_t kMantissa = (uint64_t{1} << 52) - 1;
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & kMantissa) | (uint64_t{1023} << 52));  // in [1, 2)
  if (m > 0x1.6a09e667f3bcdp0) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double s2 = s * s;
  double p = 0;  // log(m) = 2 (s + s^3/3 + s^5/5 + ...), |s| < 0.172
  for (int n = 23; n >= 3; n -= 2) p = (p + 1.0 / n) * s2;
  const double e = static_cast<double>(exponent);
  return e * kLn2High + (2.0 * s + (2.0 * s * p + e * kLn2Low));
}

// sum over i of exp((logits[i] - max) / temperature), each >= 0. One order of additions everywhere:
// 16 lanes (element i goes to lane i % 16), then a tree over the lanes.
inline double SumOfExp(absl::Span<const float> logits, float max, double temperature) {
  double lanes[16] = {};
  const size_t whole = logits.size() / 16 * 16;
  for (size_t i = 0; i < whole; i += 16) {
    for (size_t lane = 0; lane < 16; ++lane) {
      lanes[lane] += ExactExp((double{logits[i + lane]} - double{max}) / temperature);
    }
  }
  for (size_t i = whole; i < logits.size(); ++i) {
    lanes[i - whole] += ExactExp((double{logits[i]} - double{max}) / temperature);
  }
  for (size_t width = 8; width > 0; width /= 2) {
    for (size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

}  // namespace tandem
