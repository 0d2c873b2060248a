#pragma once
#include <cmath>
#include <cstdint>
#include <numbers>

#include "base/mix.h"

namespace tandem::bench {

// What a draw is for, so that one seed gives streams that have nothing to do with one another.
enum class Stream : uint64_t { kArrivals = 1, kInput, kOutput, kShared, kBlock, kRequest };

// SplitMix64: the same numbers on every machine, unlike the distributions of <random>.
class Random {
 public:
  Random(uint64_t seed, Stream stream)
      : state_(Mix(Mix(seed) + static_cast<uint64_t>(stream) * 0x9e3779b97f4a7c15u)) {}

  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15u); }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)
  double Exponential() { return -std::log1p(-Unit()); }                  // of mean 1
  double Normal() {  // of mean 0 and deviation 1, by Box and Muller
    const double radius = std::sqrt(2 * Exponential());
    return radius * std::cos(2 * std::numbers::pi * Unit());
  }

 private:
  uint64_t state_;
};

}  // namespace tandem::bench
