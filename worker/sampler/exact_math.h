#pragma once
#include <bit>
#include <cstdint>

// exp and log out of additions, multiplications and divisions alone (compiled with
// -ffp-contract=off), because libm's differ in their last bit from one CPU or version to the next.
// Both are within 2 ulp of the true value.
namespace tandem {

// ln(2) in two parts: whole numbers up to 2^20 times the first are exact.
inline constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;

// exp(x) for x <= 0; 0 below -700. `Real` and `Bits` are double and uint64_t, or GCC's vectors of
// as many of each: element by element the same.
template <typename Real, typename Bits>
[[gnu::always_inline]] inline Real ExactExpOf(const Real& x) {
  constexpr double kLog2E = 0x1.71547652b82fep0;
  constexpr double kRound = 0x1.8p52;  // added, it leaves the nearest integer in the low bits
  const Real lowest = Real{} - 700.0;
  const Real clamped = x < lowest ? lowest : x;
  const Real rounded = clamped * kLog2E + kRound;
  const Real k = rounded - kRound;
  const Real r = (clamped - k * kLn2High) - k * kLn2Low;
  Real p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;  // Taylor's series to r^13 / 13!
  p = p * r + 1.0 / 39916800.0;                           // |r| <= ln(2) / 2
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
  const Bits exponent = (__builtin_bit_cast(Bits, rounded) + 1023) << 52;
  return x < lowest ? Real{} : p * __builtin_bit_cast(Real, exponent);
}

inline double ExactExp(double x) { return ExactExpOf<double, uint64_t>(x); }

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

}  // namespace tandem
