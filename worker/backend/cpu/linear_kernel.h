#pragma once
#include <cstdint>

#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/multiply.h"
#include "worker/backend/cpu/panel_formats.h"

// out = x * w^T over packed inputs and packed weights (kernels.h).
namespace tandem {

template <typename S>
int PaddedRows(int rows) {
  int padded = 0;
  WithTileRows<S>(rows, [&](auto tile) { padded = decltype(tile)::value; });
  return padded;
}

// Rows above `rows` repeat the first: what they give is thrown away.
template <typename S>
void PackRows(const float* x, int64_t stride, int rows, int64_t cols, float* tile) {
  const int padded = PaddedRows<S>(rows);
  for (int m = 0; m < padded; ++m) {
    const float* const row = x + stride * (m < rows ? m : 0);
    for (int64_t k = 0; k < cols; ++k) tile[k * padded + m] = row[k];
  }
}

// The last step of outputs: bias, then what was there, in this order.
template <typename S, int M, int R>
void Finish(const LinearArgs& args, int64_t panel, int64_t row, int rows,
            const Sums<S, M, R>& sums) {
  for (int r = 0; r < R; ++r) {
    const int64_t output = (panel + r) * kLanes;
    const int64_t left = args.outputs - output;
    const int lanes = left < kLanes ? static_cast<int>(left) : kLanes;
    for (int m = 0; m < M && m < rows; ++m) {
      float* const out = args.out + (row + m) * args.out_stride + output;
      typename S::V y = sums.sum[m][r];
      if (args.bias != nullptr) y = S::Add(y, S::LoadFirst(args.bias + output, lanes));
      if (args.accumulate) y = S::Add(y, S::LoadFirst(out, lanes));
      S::StoreFirst(out, y, lanes);
    }
  }
}

template <typename Format, int R>
Panels<Format, R> PanelsAt(const LinearArgs& args, int64_t panel) {
  const int64_t in_group = panel % kGroupPanels, group = panel - in_group;
  const int64_t left = args.panel_count - group;
  const int64_t width = left < kGroupPanels ? left : kGroupPanels;
  const size_t offset = group * args.panel_bytes + in_group * Format::kStepBytes;
  return {args.panels + offset, width * Format::kStepBytes};
}

// Calls f(Int<n>, panel) for n panels of one group at a time, at most kWide.
template <int kWide, typename F>
void ForPanels(int64_t first, int64_t last, F f) {
  for (int64_t panel = first; panel < last;) {
    const int64_t in_group = kGroupPanels - panel % kGroupPanels;
    const int64_t count = last - panel < in_group ? last - panel : in_group;
    if (kWide >= 4 && count >= 4) {
      f(Int<kWide >= 4 ? 4 : 1>{}, panel);
      panel += 4;
    } else if (kWide >= 2 && count >= 2) {
      f(Int<kWide >= 2 ? 2 : 1>{}, panel);
      panel += 2;
    } else {
      f(Int<1>{}, panel);
      panel += 1;
    }
  }
}

template <typename S, typename Format>
struct Linear {
  using Unpacked = PlainFormat<S, DType::kF32>;
  static constexpr int kPanels = S::kPanelsOfRows(S::kRowTile);
  static constexpr bool kCostly = Format::kStep > 2;  // to unpack
  static_assert(kPanels <= kLinearPanelsMax && kLinearRowBlock % S::kRowTile == 0);

  // Few rows: weights are unpacked in registers, once for each tile.
  template <int M>
  static void OneTile(const LinearArgs& args, int64_t first, int64_t last) {
    ForPanels<S::kPanelsOfRows(M)>(first, last, [&](auto width, int64_t panel) {
      Tile<M, decltype(width)::value, true>(args, panel, 0, static_cast<int>(args.rows));
    });
  }

  static void FewTiles(const LinearArgs& args, int64_t first, int64_t last) {
    ForPanels<kPanels>(first, last, [&](auto width, int64_t panel) {
      constexpr int kWidth = decltype(width)::value;
      Tile<S::kRowTile, kWidth, true>(args, panel, 0, S::kRowTile);
      for (int64_t row = S::kRowTile; row < args.rows; row += S::kRowTile) {
        const int64_t left = args.rows - row;
        const int rows = left < S::kRowTile ? static_cast<int>(left) : S::kRowTile;
        WithTileRows<S>(rows, [&](auto padded) {
          Tile<decltype(padded)::value, kWidth, false>(args, panel, row, rows);
        });
      }
    });
  }

  template <int M, int R, bool kFromMemory>
  static __attribute__((noinline)) void Tile(const LinearArgs& args, int64_t panel, int64_t row,
                                             int rows) {
    Sums<S, M, R> sums;
    sums.Clear();
    Multiply<S, Format, M, R, kFromMemory>(PanelsAt<Format, R>(args, panel),
                                           args.tiles + row * args.cols, args.cols, sums);
    Finish<S, M, R>(args, panel, row, rows, sums);
  }

  // Many rows: a stretch of a few panels is unpacked into float32 panels, which all tiles of a
  // block of rows then use. Sums wait in memory between stretches.
  static void ManyTiles(const LinearArgs& args, int64_t first, int64_t last, float* scratch) {
    for (int64_t row = 0; row < args.rows; row += kLinearRowBlock) {
      const int64_t left = args.rows - row;
      const int64_t rows = left < kLinearRowBlock ? left : kLinearRowBlock;
      ForPanels<kPanels>(first, last, [&](auto width, int64_t panel) {
        RowBlock<decltype(width)::value>(args, panel, row, rows, scratch);
      });
    }
  }

  template <int R>
  static void RowBlock(const LinearArgs& args, int64_t panel, int64_t row, int64_t rows,
                       float* scratch) {
    float* const kept = scratch + kLinearPanelsMax * kLanes * kLinearStretch;
    for (int64_t begin = 0; begin < args.cols; begin += kLinearStretch) {
      const int64_t left = args.cols - begin;
      const Stretch stretch{begin, left < kLinearStretch ? left : kLinearStretch};
      const auto panels = Unpack<R>(PanelsAt<Format, R>(args, panel), stretch, scratch);
      for (int64_t i = 0; i < rows; i += S::kRowTile) {
        const int64_t tile_left = rows - i;
        const int tile = tile_left < S::kRowTile ? static_cast<int>(tile_left) : S::kRowTile;
        WithTileRows<S>(tile, [&](auto padded) {
          StretchOfTile<decltype(padded)::value, R>(args, panels, stretch, panel, row + i, tile,
                                                    kept + i * R * kLanes);
        });
      }
    }
  }

  struct Stretch {
    int64_t begin, cols;
  };

  template <int M, int R>
  static __attribute__((noinline)) void StretchOfTile(const LinearArgs& args,
                                                      Panels<Unpacked, R> panels, Stretch stretch,
                                                      int64_t panel, int64_t row, int rows,
                                                      float* kept) {
    Sums<S, M, R> sums;
    if (stretch.begin == 0) {
      sums.Clear();
    } else {
      sums.Load(kept, R * kLanes);
    }
    const float* const x = args.tiles + row * args.cols + stretch.begin * M;
    Multiply<S, Unpacked, M, R, false>(panels, x, stretch.cols, sums);
    if (stretch.begin + stretch.cols == args.cols) {
      Finish<S, M, R>(args, panel, row, rows, sums);
    } else {
      sums.Store(kept, R * kLanes);
    }
  }

  // The float32 values of a stretch of panels, as float32 panels; stored as such, they are used
  // where they are.
  template <int R>
  static Panels<Unpacked, R> Unpack(Panels<Format, R> packed, Stretch stretch, float* to) {
    packed.first += stretch.begin / Format::kStep * packed.stride;
    if constexpr (Format::kStep == 1 && Format::kStepBytes == Unpacked::kStepBytes) {
      return {packed.first, packed.stride};
    } else {
      for (int r = 0; r < R; ++r) {
        float* out = to + r * kLanes;
        int64_t offset = 0;
        for (int64_t k = 0; k < stretch.cols; k += Format::kStep, offset += packed.stride) {
          Format format;
          format.Open(packed.Step(r, offset));
          for (int g = 0; g < Format::kStep / Format::kGroup; ++g) {
            typename Format::Group group;
            group.Open(packed.Step(r, offset), g);
            StoreGroup(format, group, out, R * kLanes);
            out += Format::kGroup * R * kLanes;
          }
        }
      }
      return {reinterpret_cast<const uint8_t*>(to), R * Unpacked::kStepBytes};
    }
  }

  template <int kIndex = 0>
  static inline __attribute__((always_inline)) void StoreGroup(const Format& format,
                                                               const typename Format::Group& group,
                                                               float* out, int stride) {
    if constexpr (kIndex < Format::kGroup) {
      S::Store(out + kIndex * stride, format.template Weight<kIndex>(group));
      StoreGroup<kIndex + 1>(format, group, out, stride);
    }
  }

  static void Run(const LinearArgs& args, int64_t first, int64_t last, float* scratch) {
    constexpr int kFewTiles = 3;  // up to which unpacking again costs less than going to memory
    if (args.rows > kFewTiles * S::kRowTile || (kCostly && args.rows > S::kRowTile)) {
      return ManyTiles(args, first, last, scratch);
    }
    if constexpr (!kCostly) {
      if (args.rows > S::kRowTile) return FewTiles(args, first, last);
    }
    WithTileRows<S>(static_cast<int>(args.rows),
                    [&](auto padded) { OneTile<decltype(padded)::value>(args, first, last); });
  }
};

template <typename S>
void RunLinear(const LinearArgs& args, int64_t first, int64_t last, float* scratch) {
  switch (args.dtype) {
    case DType::kF32:
      return Linear<S, PlainFormat<S, DType::kF32>>::Run(args, first, last, scratch);
    case DType::kF16:
      return Linear<S, PlainFormat<S, DType::kF16>>::Run(args, first, last, scratch);
    case DType::kBF16:
      return Linear<S, BrainFormat<S>>::Run(args, first, last, scratch);
    case DType::kQ4_K:
      return Linear<S, Q45KFormat<S, false>>::Run(args, first, last, scratch);
    case DType::kQ5_K:
      return Linear<S, Q45KFormat<S, true>>::Run(args, first, last, scratch);
    case DType::kQ6_K:
      return Linear<S, Q6KFormat<S>>::Run(args, first, last, scratch);
    default:  // fixed_linear.h
      return;
  }
}

}  // namespace tandem
