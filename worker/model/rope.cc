#include "worker/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tandem {
namespace {

// Wavelengths up to original/high keep their frequency, those from original/low on are divided by
// the factor, and between the two the frequency is interpolated.
double Llama3(const RopeSpec& rope, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const double turns = rope.original_context / wavelength;  // within the original context
  if (turns < rope.low_freq_factor) return frequency / rope.factor;
  if (turns > rope.high_freq_factor) return frequency;
  const double kept =
      (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - kept) * frequency / rope.factor + kept * frequency;
}

// The pair of a head, not a whole number, that turns `turns` times within the original context.
double PairThatTurns(const RopeSpec& rope, int32_t head_dim, double turns) {
  const double wavelength = rope.original_context / turns;  // tokens
  return head_dim * std::log(wavelength / (2 * std::numbers::pi)) / (2 * std::log(rope.theta));
}

// Pairs up to `low` keep their frequency, those from `high` on are divided by the factor, and
// between the two the frequency is interpolated.
double Yarn(const RopeSpec& rope, int32_t head_dim, int32_t pair, double frequency) {
  double low = PairThatTurns(rope, head_dim, rope.beta_fast);
  double high = PairThatTurns(rope, head_dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;
  const double divided = std::clamp((pair - low) / (high - low), 0.0, 1.0);
  return divided * frequency / rope.factor + (1 - divided) * frequency;
}

}  // namespace

std::vector<float> RopeFrequencies(const RopeSpec& rope, int32_t head_dim) {
  std::vector<float> frequencies(head_dim / 2);
  for (int32_t i = 0; i < head_dim / 2; ++i) {
    double frequency = std::pow(rope.theta, -2.0 * i / head_dim);
    switch (rope.scaling) {
      case RopeScaling::kNone:
        break;
      case RopeScaling::kLinear:
        frequency /= rope.factor;
        break;
      case RopeScaling::kLlama3:
        frequency = Llama3(rope, frequency);
        break;
      case RopeScaling::kYarn:
        frequency = Yarn(rope, head_dim, i, frequency);
        break;
      case RopeScaling::kDivisors:
        frequency /= rope.divisors[i];
        break;
    }
    frequencies[i] = static_cast<float>(frequency);
  }
  return frequencies;
}

}  // namespace tandem
