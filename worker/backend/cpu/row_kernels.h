#pragma once
#include <cstdint>

#include "worker/backend/cpu/kernels.h"

namespace tandem {

// e^x to within 2 ulp, by 2^n e^r with |r| <= ln(2) / 2 and the power series of e^r. Zero below
// -87.3, where float32 has no normal result; capped at e^88.
template <typename S>
typename S::V Exp(typename S::V x) {
  using V = typename S::V;
  constexpr float kLowest = -87.3f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const V clamped = S::Max(S::Min(x, S::Set(88.0f)), S::Set(kLowest));
  const V magic = S::Fma(clamped, S::Set(1.44269504f), S::Set(kRound));
  const V n = S::Sub(magic, S::Set(kRound));
  V r = S::Fma(n, S::Set(-0.693359375f), clamped);  // ln 2, its first 10 bits ...
  r = S::Fma(n, S::Set(2.12194440e-4f), r);         // ... and the rest
  V sum = S::Set(1.0f / 5040);
  sum = S::Fma(sum, r, S::Set(1.0f / 720));
  sum = S::Fma(sum, r, S::Set(1.0f / 120));
  sum = S::Fma(sum, r, S::Set(1.0f / 24));
  sum = S::Fma(sum, r, S::Set(1.0f / 6));
  sum = S::Fma(sum, r, S::Set(0.5f));
  sum = S::Fma(sum, r, S::Set(1.0f));
  sum = S::Fma(sum, r, S::Set(1.0f));
  return S::ZeroBelow(x, kLowest, S::Mul(sum, S::PowerOfTwo(magic, kRound)));
}

template <typename S>
void RunRmsNorm(const float* x, int64_t cols, const float* weight, float eps, float* out) {
  using V = typename S::V;
  const int64_t whole = cols / kLanes * kLanes;
  const int rest = static_cast<int>(cols - whole);
  V squares = S::Zero();
  for (int64_t i = 0; i < whole; i += kLanes) {
    const V part = S::Load(x + i);
    squares = S::Fma(part, part, squares);
  }
  const V last = S::LoadFirst(x + whole, rest);
  squares = S::Fma(last, last, squares);
  const float mean = S::Sum(squares) / static_cast<float>(cols);
  const V scale = S::Div(S::Set(1.0f), S::Sqrt(S::Set(mean + eps)));
  for (int64_t i = 0; i < whole; i += kLanes) {
    S::Store(out + i, S::Mul(S::Mul(S::Load(x + i), scale), S::Load(weight + i)));
  }
  const V scaled = S::Mul(S::Mul(last, scale), S::LoadFirst(weight + whole, rest));
  S::StoreFirst(out + whole, scaled, rest);
}

template <typename S>
void RunSwiGlu(const float* gate, const float* up, int64_t cols, float* out) {
  using V = typename S::V;
  for (int64_t i = 0; i < cols; i += kLanes) {
    const int lanes = cols - i < kLanes ? static_cast<int>(cols - i) : kLanes;
    const V g = S::LoadFirst(gate + i, lanes);
    const V silu = S::Div(g, S::Add(S::Set(1.0f), Exp<S>(S::Sub(S::Zero(), g))));
    S::StoreFirst(out + i, S::Mul(silu, S::LoadFirst(up + i, lanes)), lanes);
  }
}

}  // namespace tandem
