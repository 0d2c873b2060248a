#pragma once
#include <cstddef>
#include <cstdint>

#include "worker/model/dtype.h"

// The arithmetic of the CPU backend, once per instruction set: the same operations in the same
// order on 16 virtual lanes, so that all sets give the same bits.
//
// Files that are compiled for one instruction set (kernels_*.cc and what only they include) must
// not instantiate anything of the standard library or Abseil: the linker keeps one copy of an
// inline function, and the one it keeps must run on every CPU. Everything in them is therefore a
// template over the set's Simd type.
namespace tandem {

inline constexpr int kLanes = 16;

// Panels that lie interleaved, step by step, so that a product of few rows, which is bound by
// memory, reads one stream.
inline constexpr int kGroupPanels = 4;

// Weights are packed in panels of 16 outputs; lane = output (packed_matrix.h). Inputs are packed in
// tiles of up to row_tile rows, [cols][padded rows] each, so that one pointer reaches all rows.
struct LinearArgs {
  DType dtype = DType::kF32;
  const uint8_t* panels = nullptr;
  size_t panel_bytes = 0;
  int64_t panel_count = 0;
  int64_t cols = 0;                   // inputs
  int64_t outputs = 0;                // of all panels; the last may be partly filled
  const float* tiles = nullptr;       // the packed inputs
  const void* fixed_tiles = nullptr;  // instead of them, for the types of ZeroOf
  int digits = 3;                     // of these: 1 or 3
  int64_t rows = 0;
  const float* bias = nullptr;  // [outputs] or null
  bool accumulate = false;      // add to what `out` holds
  float* out = nullptr;         // [rows, out_stride], at the first panel's first output
  int64_t out_stride = 0;
};

// `heads` query heads that share a kv head, of `rows` neighbouring tokens of one sequence. At most
// row_tile of (row, head) pairs. The same for the next kv heads and their query heads, so that what
// lies side by side in a block is read at once.
struct AttentionArgs {
  const float* q = nullptr;  // the first row's first head
  int64_t q_stride = 0;      // floats from row to row
  int rows = 0;
  int heads = 0;
  int kv_heads = 1;                      // at most kAttentionKvHeads
  int64_t position = 0;                  // of the first row
  const float* const* blocks = nullptr;  // slices of the sequence's blocks, in order
  size_t key_offset = 0;                 // of the first kv head inside a slice, in floats
  size_t value_offset = 0;
  int head_dim = 0;
  float scale = 0;
  int64_t window = 0;    // tokens that a row sees, its own included; 0: all
  float* out = nullptr;  // as q
  int64_t out_stride = 0;
  float* scratch = nullptr;  // AttentionScratchFloats(...)
};

// Bytes of one row of inputs as whole numbers; the rows of a tile take turns in them.
constexpr int64_t FixedRowBytes(int digits, int64_t cols) { return cols / 32 * (36 * digits + 8); }

// Whether a type's codes are multiplied as whole numbers, and the code that stands for zero.
constexpr bool IsFixed(DType dtype) {
  return dtype == DType::kQ8_0 || dtype == DType::kQ4_0 || dtype == DType::kQ4_1;
}
constexpr int ZeroOf(DType dtype) {
  return dtype == DType::kQ8_0 ? 128 : dtype == DType::kQ4_0 ? 8 : 0;
}

struct CpuKernels {
  const char* name;
  int row_tile;
  // Rows that a tile of `rows` rows occupies; rows in [1, row_tile].
  int (*padded_rows)(int rows);
  void (*pack_rows)(const float* x, int64_t stride, int rows, int64_t cols, float* tile);
  // Computes the outputs of panels [first, last).
  void (*linear)(const LinearArgs& args, int64_t first, int64_t last, float* scratch);
  // The same for whole-number inputs (fixed_linear.h). A tile of `rows` rows begins after
  // FixedRowBytes of each row before it; `zero` is ZeroOf the weights.
  int (*fixed_tile)(int digits);
  void (*pack_fixed)(const float* x, int64_t stride, int rows, int64_t cols, int digits, int zero,
                     void* tile);
  void (*fixed_linear)(const LinearArgs& args, int64_t first, int64_t last);
  void (*attention)(const AttentionArgs& args);
  // `out` may be `x`.
  void (*rms_norm)(const float* x, int64_t cols, const float* weight, float eps, float* out);
  void (*swiglu)(const float* gate, const float* up, int64_t cols, float* out);
};

// Tables for CPUs that have the instructions; calling one elsewhere is an illegal instruction.
const CpuKernels& ScalarKernels();
const CpuKernels& Avx2Kernels();        // AVX2, FMA, F16C
const CpuKernels& Avx512Kernels();      // AVX-512 F, BW, DQ, VL
const CpuKernels& Avx512VnniKernels();  // and VNNI

inline constexpr int kRowTileMax = 12;
inline constexpr int64_t kLinearStretch = 1024;  // inputs whose weights are unpacked at once
inline constexpr int64_t kLinearRowBlock =
    192;                                    // rows that share them; a multiple of all row_tiles
inline constexpr int kLinearPanelsMax = 2;  // panels unpacked at once
inline constexpr size_t kLinearScratchFloats =
    kLinearPanelsMax * kLanes * (kLinearStretch + kLinearRowBlock);

inline constexpr int kAttentionKvHeads = 8;

// Floats of scratch for `blocks` blocks of keys.
constexpr size_t AttentionScratchFloats(size_t blocks, int head_dim, int kv_heads) {
  const size_t padded_dim = (head_dim + kLanes - 1) / kLanes * kLanes;
  return kv_heads * kRowTileMax * ((blocks + 1) * kLanes + 2 * padded_dim);
}

}  // namespace tandem
