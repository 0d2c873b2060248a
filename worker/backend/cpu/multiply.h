#pragma once
#include <cstdint>

#include "worker/backend/cpu/kernels.h"

// The inner loop that linear layers and attention share: M rows times R panels of 16 outputs. Each
// output is one chain of fused multiply-adds over the inputs in order, whatever M and R are, so a
// row's result does not depend on its neighbours.
namespace tandem {

template <int kValue>
struct Int {
  static constexpr int value = kValue;
};

// Calls f(Int<n>) for the tile size that holds `rows` rows, at most S::kRowTile.
template <typename S, typename F>
inline __attribute__((always_inline)) void WithTileRows(int rows, F f) {
  if constexpr (S::kRowTile >= 12) {
    if (rows > 8) return f(Int<12>{});
  }
  if constexpr (S::kRowTile >= 8) {
    if (rows > 4) return f(Int<8>{});
  }
  if constexpr (S::kRowTile == 6) {
    if (rows > 4) return f(Int<6>{});
  }
  if (rows > 2) return f(Int<4>{});
  if (rows == 2) return f(Int<2>{});
  f(Int<1>{});
}

// M rows by R panels of sums, kept in registers.
template <typename S, int M, int R>
struct Sums {
  typename S::V sum[M][R];

  void Clear() {
    for (int m = 0; m < M; ++m) {
      for (int r = 0; r < R; ++r) sum[m][r] = S::Zero();
    }
  }
  void Load(const float* from, int64_t stride) {
    for (int m = 0; m < M; ++m) {
      for (int r = 0; r < R; ++r) sum[m][r] = S::Load(from + m * stride + r * kLanes);
    }
  }
  void Store(float* to, int64_t stride) const {
    for (int m = 0; m < M; ++m) {
      for (int r = 0; r < R; ++r) S::Store(to + m * stride + r * kLanes, sum[m][r]);
    }
  }
  // Adds the products of one input: R weights of 16 lanes and M values, `stride` apart.
  inline __attribute__((always_inline)) void Add(const typename S::V (&weight)[R], const float* x,
                                                 int64_t stride) {
    for (int m = 0; m < M; ++m) {
      const typename S::V value = S::Set(x[m * stride]);
      for (int r = 0; r < R; ++r) sum[m][r] = S::Fma(weight[r], value, sum[m][r]);
    }
  }
};

template <typename S, typename Format, int M, int R, int kIndex = 0>
inline __attribute__((always_inline)) void AddGroup(const Format (&formats)[R],
                                                    const typename Format::Group (&groups)[R],
                                                    const float* x, Sums<S, M, R>& sums) {
  if constexpr (kIndex < Format::kGroup) {
    typename S::V weight[R];
    for (int r = 0; r < R; ++r) weight[r] = formats[r].template Weight<kIndex>(groups[r]);
    sums.Add(weight, x + kIndex * M, 1);
    AddGroup<S, Format, M, R, kIndex + 1>(formats, groups, x, sums);
  }
}

// R neighbouring panels of a group. Steps of one panel are `stride` bytes apart.
template <typename Format, int R>
struct Panels {
  const uint8_t* first;
  int64_t stride;

  const uint8_t* Step(int r, int64_t offset) const {
    return first + offset + r * Format::kStepBytes;
  }
};

// Adds the products of `cols` inputs, whole steps, to the sums. `x` is [cols][M]. A whole group of
// panels is one stream from memory, which the processor keeps going by itself; parts of one are
// not, and are prefetched.
template <typename S, typename Format, int M, int R, bool kFromMemory>
inline __attribute__((always_inline)) void Multiply(Panels<Format, R> panels, const float* x,
                                                    int64_t cols, Sums<S, M, R>& sums) {
  constexpr bool kPrefetch = kFromMemory && R < kGroupPanels;
  constexpr int kStepsAhead = 2048 / (kGroupPanels * Format::kStepBytes) + 1;
  int64_t offset = 0;
  for (int64_t k = 0; k < cols; k += Format::kStep, offset += panels.stride) {
    if constexpr (kPrefetch) {
      const uint8_t* const ahead = panels.Step(0, offset + kStepsAhead * panels.stride);
      for (int at = 0; at < R * Format::kStepBytes; at += 64) __builtin_prefetch(ahead + at);
    }
    Format formats[R];
    for (int r = 0; r < R; ++r) formats[r].Open(panels.Step(r, offset));
    for (int g = 0; g < Format::kStep / Format::kGroup; ++g) {
      typename Format::Group groups[R];
      for (int r = 0; r < R; ++r) groups[r].Open(panels.Step(r, offset), g);
      AddGroup<S, Format, M, R>(formats, groups, x, sums);
      x += Format::kGroup * M;
    }
  }
}

}  // namespace tandem
