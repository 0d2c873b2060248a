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

template <typename S, typename Format>
struct Linear {
  static constexpr int kPanels = S::kPanelsOfRows(S::kRowTile);
  static_assert(kPanels <= kLinearPanelsMax && kLinearRowBlock % S::kRowTile == 0);

  // Few rows: one tile. Weights are unpacked in registers, each once.
  template <int M>
  static void OneTile(const LinearArgs& args, int64_t first, int64_t last) {
    constexpr int kWide = S::kPanelsOfRows(M);
    int64_t panel = first;
    for (; panel + kWide <= last; panel += kWide) Tile<M, kWide>(args, panel);
    if constexpr (kWide > 2) {
      for (; panel + 2 <= last; panel += 2) Tile<M, 2>(args, panel);
    }
    for (; panel < last; ++panel) Tile<M, 1>(args, panel);
  }

  template <int M, int R>
  static __attribute__((noinline)) void Tile(const LinearArgs& args, int64_t panel) {
    const uint8_t* panels[R];
    for (int r = 0; r < R; ++r) panels[r] = args.panels + (panel + r) * args.panel_bytes;
    Sums<S, M, R> sums;
    sums.Clear();
    Multiply<S, Format, M, R>(panels, args.tiles, args.cols, sums);
    Finish<S, M, R>(args, panel, 0, static_cast<int>(args.rows), sums);
  }

  // Many rows: a stretch of a few panels is unpacked into float32 panels, which all tiles of a
  // block of rows then use. Sums wait in memory between stretches.
  static void ManyTiles(const LinearArgs& args, int64_t first, int64_t last, float* scratch) {
    for (int64_t row = 0; row < args.rows; row += kLinearRowBlock) {
      const int64_t left = args.rows - row;
      const int64_t rows = left < kLinearRowBlock ? left : kLinearRowBlock;
      int64_t panel = first;
      for (; panel + kPanels <= last; panel += kPanels) {
        RowBlock<kPanels>(args, panel, row, rows, scratch);
      }
      for (; panel < last; ++panel) RowBlock<1>(args, panel, row, rows, scratch);
    }
  }

  template <int R>
  static void RowBlock(const LinearArgs& args, int64_t panel, int64_t row, int64_t rows,
                       float* scratch) {
    float* const kept = scratch + kLinearPanelsMax * kLanes * kLinearStretch;
    for (int64_t begin = 0; begin < args.cols; begin += kLinearStretch) {
      const int64_t left = args.cols - begin;
      const int64_t cols = left < kLinearStretch ? left : kLinearStretch;
      const uint8_t* panels[R];
      for (int r = 0; r < R; ++r) {
        const uint8_t* const packed = args.panels + (panel + r) * args.panel_bytes +
                                      begin / Format::kStep * Format::kStepBytes;
        panels[r] = Unpack(packed, cols, scratch + r * kLanes * kLinearStretch);
      }
      const Stretch stretch{begin, cols};
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
                                                      const uint8_t* const (&panels)[R],
                                                      Stretch stretch, int64_t panel, int64_t row,
                                                      int rows, float* kept) {
    Sums<S, M, R> sums;
    if (stretch.begin == 0) {
      sums.Clear();
    } else {
      sums.Load(kept, R * kLanes);
    }
    const float* const x = args.tiles + row * args.cols + stretch.begin * M;
    Multiply<S, PlainFormat<S, DType::kF32>, M, R>(panels, x, stretch.cols, sums);
    if (stretch.begin + stretch.cols == args.cols) {
      Finish<S, M, R>(args, panel, row, rows, sums);
    } else {
      sums.Store(kept, R * kLanes);
    }
  }

  // The float32 values of `cols` inputs of a panel, as a float32 panel; stored as one, they are
  // used where they are.
  static const uint8_t* Unpack(const uint8_t* packed, int64_t cols, float* to) {
    if constexpr (Format::kStepBytes == 64) return packed;
    float* out = to;
    for (int64_t k = 0; k < cols; k += Format::kStep, packed += Format::kStepBytes) {
      Format format;
      format.Open(packed);
      for (int g = 0; g < Format::kStep / Format::kGroup; ++g) {
        typename Format::Group group;
        group.Open(packed, g);
        StoreGroup(format, group, out);
        out += Format::kGroup * kLanes;
      }
    }
    return reinterpret_cast<const uint8_t*>(to);
  }

  template <int kIndex = 0>
  static inline __attribute__((always_inline)) void StoreGroup(const Format& format,
                                                               const typename Format::Group& group,
                                                               float* out) {
    if constexpr (kIndex < Format::kGroup) {
      S::Store(out + kIndex * kLanes, format.template Weight<kIndex>(group));
      StoreGroup<kIndex + 1>(format, group, out);
    }
  }

  static void Run(const LinearArgs& args, int64_t first, int64_t last, float* scratch) {
    if (args.rows > S::kRowTile) return ManyTiles(args, first, last, scratch);
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
      return Linear<S, PlainFormat<S, DType::kBF16>>::Run(args, first, last, scratch);
    case DType::kQ8_0:
      return Linear<S, Q8Format<S>>::Run(args, first, last, scratch);
    case DType::kQ4_0:
      return Linear<S, Q4Format<S>>::Run(args, first, last, scratch);
    case DType::kQ4_1:
      return Linear<S, Q41Format<S>>::Run(args, first, last, scratch);
  }
}

}  // namespace tandem
