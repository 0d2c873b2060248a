#pragma once
#include <cstdint>

#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/linear_kernel.h"

// out = x * w^T where the weights are codes of 4 or 8 bits with a scale for each 32 inputs. Inputs
// become whole numbers times a scale for the same 32, so that a group's sum of products is exact,
// in whatever order it is made, and an output is one chain of fused multiply-adds over the groups.
//
// With 3 digits an input is kept to 2^-22 of the power of two below the group's largest: about what
// float32 is good for in a sum with that one. q = d2 * 2^16 + d1 * 2^8 + d0, each digit in
// [-128, 127]. A sum of products with codes of 8 bits is then rounded to a multiple of 2^4, so that
// it fits a word: less than an input's own rounding does. With 1 digit an input is the nearest of
// -127 to 127 times the group's largest / 127.
namespace tandem {

inline constexpr int kFixedInputs = 32;  // of a group
inline constexpr int kFixedWords = kFixedInputs / 4;

// One group of the inputs of M rows.
template <int M, int kDigits>
struct FixedGroup {
  int32_t words[kFixedWords][M][kDigits];  // a digit of each of four neighbouring inputs
  float scale[M];
  float total[M];            // the sum of the inputs
  int32_t more[M][kDigits];  // where sums of products begin, to centre codes and to round
};
static_assert(sizeof(FixedGroup<1, 1>) == FixedRowBytes(1, kFixedInputs));
static_assert(sizeof(FixedGroup<4, 3>) == 4 * FixedRowBytes(3, kFixedInputs));

// Rows that a tile of `rows` rows occupies, at most S::kFixedTile(kDigits).
template <typename S, int kDigits, typename F>
inline __attribute__((always_inline)) void WithFixedRows(int rows, F f) {
  constexpr int kTile = S::kFixedTile(kDigits);
  if constexpr (kTile >= 12) {
    if (rows > 8) return f(Int<12>{});
  }
  if constexpr (kTile >= 8) {
    if (rows > 4) return f(Int<8>{});
  }
  if constexpr (kTile >= 4) {
    if (rows > 2) return f(Int<4>{});
  }
  if (rows == 2) return f(Int<2>{});
  f(Int<1>{});
}

// By how many bits a sum of products is shortened, with three digits: codes of 8 bits are those
// whose zero is 128.
template <typename S>
constexpr int FixedShift(int zero) {
  return zero == 128 ? 4 : 0;
}

// What a group's inputs are multiplied by to become whole numbers, and the reverse.
struct FixedScale {
  float forth, back;
};

template <typename S, int kDigits>
FixedScale FixedScaleOf(float largest) {
  if constexpr (kDigits == 1) {
    if (largest < 0x1p-100f) return {0, 0};
    return {127.f / largest, largest / 127.f};
  }
  uint32_t bits;
  __builtin_memcpy(&bits, &largest, sizeof(bits));
  uint32_t exponent = bits >> 23;
  if (exponent < 22) exponent = 22;
  const uint32_t forth = (275 - exponent) << 23, back = (exponent - 21) << 23;
  FixedScale scale;
  __builtin_memcpy(&scale.forth, &forth, sizeof(forth));
  __builtin_memcpy(&scale.back, &back, sizeof(back));
  return scale;
}

// Packs group `index` of row m.
template <typename S, int M, int kDigits>
void PackFixedGroup(const float* x, int m, int zero, FixedGroup<M, kDigits>* group) {
  using V = typename S::V;
  const V first = S::Load(x), second = S::Load(x + kLanes);
  const V size =
      S::Max(S::Max(first, S::Sub(S::Zero(), first)), S::Max(second, S::Sub(S::Zero(), second)));
  const FixedScale scale = FixedScaleOf<S, kDigits>(S::MaxOf(size));
  const typename S::I low = S::ToWhole(S::Mul(first, S::Set(scale.forth)));
  const typename S::I high = S::ToWhole(S::Mul(second, S::Set(scale.forth)));
  const int64_t sum = S::SumOfWhole(low, high);
  constexpr int kStride = M * kDigits;
  S::template StoreDigits<kDigits>(group->words[0][m], kStride, low);
  S::template StoreDigits<kDigits>(group->words[kFixedWords / 2][m], kStride, high);
  // 0, or NaN where an input is not finite: so is then every output of the row.
  const float flaw = S::Sum(S::Mul(S::Add(first, second), S::Zero()));
  const int shift = kDigits == 1 ? 0 : FixedShift<S>(zero);
  group->scale[m] = scale.back * static_cast<float>(1 << shift) + flaw;
  group->total[m] = scale.back * static_cast<float>(sum);
  const int64_t more = -zero * sum + (shift == 0 ? 0 : 1 << (shift - 1));
  for (int d = 0; d < kDigits; ++d) {
    const bool highest = d == kDigits - 1;
    group->more[m][d] = static_cast<int32_t>(highest ? more >> 8 * d : more >> 8 * d & 255);
  }
}

// Rows above `rows` repeat the first, as in PackRows.
template <typename S, int kDigits>
void PackFixedTile(const float* x, int64_t stride, int rows, int64_t cols, int zero, void* tile) {
  WithFixedRows<S, kDigits>(rows, [&](auto padded) {
    constexpr int kRows = decltype(padded)::value;
    auto* const groups = static_cast<FixedGroup<kRows, kDigits>*>(tile);
    for (int m = 0; m < kRows; ++m) {
      const float* const row = x + stride * (m < rows ? m : 0);
      for (int64_t k = 0; k < cols; k += kFixedInputs) {
        PackFixedGroup<S>(row + k, m, zero, groups + k / kFixedInputs);
      }
    }
  });
}

template <typename S>
void PackFixed(const float* x, int64_t stride, int rows, int64_t cols, int digits, int zero,
               void* tile) {
  if (digits == 1) return PackFixedTile<S, 1>(x, stride, rows, cols, zero, tile);
  PackFixedTile<S, 3>(x, stride, rows, cols, zero, tile);
}

// The panels of one type (panel_formats.h): words of codes of four inputs, scales, offsets. A row
// of words of one panel of a group is followed by those of the others.
inline constexpr int kFixedRowBytes = 64 * kGroupPanels;

template <typename S>
struct FixedQ8 {
  static constexpr DType kType = DType::kQ8_0;
  static constexpr int kStepBytes = 544, kScales = 512;
  static constexpr bool kOffsets = false;
  template <int kIndex>
  static typename S::W Word(const uint8_t* rows) {
    return S::Bytes(S::LoadWords(rows + kFixedRowBytes * kIndex));
  }
};

template <typename S, bool kWithOffsets>
struct FixedQ4 {
  static constexpr DType kType = kWithOffsets ? DType::kQ4_1 : DType::kQ4_0;
  static constexpr int kStepBytes = kWithOffsets ? 320 : 288, kScales = 256;
  static constexpr bool kOffsets = kWithOffsets;
  template <int kIndex>
  static typename S::W Word(const uint8_t* rows) {
    const typename S::U words = S::LoadWords(rows + kFixedRowBytes * (kIndex / 2));
    return kIndex % 2 == 0 ? S::LowHalves(words) : S::HighHalves(words);
  }
};

// Neighbouring panels of a group, at one step.
struct FixedStep {
  const uint8_t* group;
  int64_t panel;  // the first, in the group

  const uint8_t* Rows(int r) const { return group + 64 * (panel + r); }
  // Of 16 halves a panel, behind `offset` bytes of each.
  const uint8_t* Halves(int r, int offset) const {
    return group + offset * kGroupPanels + 32 * (panel + r);
  }
};

template <typename S, typename Format, int kDigits>
struct FixedLinear {
  static constexpr int kTile = S::kFixedTile(kDigits);

  static void Run(const LinearArgs& args, int64_t first, int64_t last) {
    // Inputs of a block of rows stay in a core's cache while all panels go by.
    constexpr int64_t kRowBlock = 48 * (kDigits == 1 ? 4 : 2);
    for (int64_t block = 0; block < args.rows; block += kRowBlock) {
      const int64_t end = block + kRowBlock < args.rows ? block + kRowBlock : args.rows;
      RunBlock(args, first, last, block, end);
    }
  }

 private:
  static void RunBlock(const LinearArgs& args, int64_t first, int64_t last, int64_t row,
                       int64_t end) {
    if (end - row == 1) {
      ForPanels<S::kFixedPanels(1, kDigits)>(first, last, [&](auto width, int64_t panel) {
        Tile<1, decltype(width)::value>(args, panel, row, 1);
      });
      return;
    }
    ForPanels<S::kFixedPanels(kTile, kDigits)>(first, last, [&](auto width, int64_t panel) {
      for (int64_t i = row; i < end; i += kTile) {
        const int rows = end - i < kTile ? static_cast<int>(end - i) : kTile;
        WithFixedRows<S, kDigits>(rows, [&](auto padded) {
          Tile<decltype(padded)::value, decltype(width)::value>(args, panel, i, rows);
        });
      }
    });
  }

  template <int M, int R>
  static __attribute__((noinline)) void Tile(const LinearArgs& args, int64_t panel, int64_t row,
                                             int rows) {
    const auto* group = reinterpret_cast<const FixedGroup<M, kDigits>*>(
        static_cast<const uint8_t*>(args.fixed_tiles) +
        row * (args.cols / kFixedInputs) * static_cast<int64_t>(sizeof(FixedGroup<1, kDigits>)));
    const int64_t in_group = R == kGroupPanels ? 0 : panel % kGroupPanels;
    FixedStep step{args.panels + (panel - in_group) * args.panel_bytes, in_group};
    Sums<S, M, R> sums;
    sums.Clear();
    for (int64_t k = 0; k < args.cols; k += kFixedInputs) {
      AddGroup<M, R>(step, *group, sums);
      step.group += kGroupPanels * Format::kStepBytes;
      ++group;
    }
    Finish<S, M, R>(args, panel, row, rows, sums);
  }

  template <int M, int R>
  static inline __attribute__((always_inline)) void AddGroup(const FixedStep& step,
                                                             const FixedGroup<M, kDigits>& group,
                                                             Sums<S, M, R>& sums) {
    typename S::I dots[M][R][kDigits];
    for (int m = 0; m < M; ++m) {
      for (int r = 0; r < R; ++r) {
        for (int d = 0; d < kDigits; ++d) dots[m][r][d] = S::SetWhole(group.more[m][d]);
      }
    }
    AddWords<M, R>(step, group, dots);
    for (int r = 0; r < R; ++r) {
      const typename S::V scale = S::LoadHalves(step.Halves(r, Format::kScales));
      for (int m = 0; m < M; ++m) {
        const typename S::V sum = S::FromWhole(Join(dots[m][r]));
        sums.sum[m][r] = S::Fma(S::Mul(scale, S::Set(group.scale[m])), sum, sums.sum[m][r]);
        if constexpr (Format::kOffsets) {
          const typename S::V offsets = S::LoadHalves(step.Halves(r, Format::kScales + 32));
          sums.sum[m][r] = S::Fma(offsets, S::Set(group.total[m]), sums.sum[m][r]);
        }
      }
    }
  }

  template <int M, int R, int kWord = 0>
  static inline __attribute__((always_inline)) void AddWords(const FixedStep& step,
                                                             const FixedGroup<M, kDigits>& group,
                                                             typename S::I (&dots)[M][R][kDigits]) {
    if constexpr (kWord < kFixedWords) {
      typename S::W bytes[R];
      for (int r = 0; r < R; ++r) {
        bytes[r] = Format::template Word<kWord>(step.Rows(r));
      }
      for (int m = 0; m < M; ++m) {
        for (int d = 0; d < kDigits; ++d) {
          for (int r = 0; r < R; ++r) {
            dots[m][r][d] = S::AddDots(dots[m][r][d], bytes[r], group.words[kWord][m][d]);
          }
        }
      }
      AddWords<M, R, kWord + 1>(step, group, dots);
    }
  }

  static typename S::I Join(const typename S::I (&dots)[kDigits]) {
    if constexpr (kDigits == 1) {
      return dots[0];
    } else {
      constexpr int kShift = FixedShift<S>(ZeroOf(Format::kType));
      return S::template JoinDigits<kShift>(dots[2], dots[1], dots[0]);
    }
  }
};

template <typename S, typename Format>
void RunFixedFormat(const LinearArgs& args, int64_t first, int64_t last) {
  if (args.digits == 1) return FixedLinear<S, Format, 1>::Run(args, first, last);
  FixedLinear<S, Format, 3>::Run(args, first, last);
}

template <typename S>
void RunFixedLinear(const LinearArgs& args, int64_t first, int64_t last) {
  switch (args.dtype) {
    case DType::kQ8_0:
      return RunFixedFormat<S, FixedQ8<S>>(args, first, last);
    case DType::kQ4_0:
      return RunFixedFormat<S, FixedQ4<S, false>>(args, first, last);
    case DType::kQ4_1:
      return RunFixedFormat<S, FixedQ4<S, true>>(args, first, last);
    default:
      return;
  }
}

}  // namespace tandem
