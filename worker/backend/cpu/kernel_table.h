#pragma once
#include "worker/backend/cpu/attention_kernel.h"
#include "worker/backend/cpu/fixed_linear.h"
#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/linear_kernel.h"
#include "worker/backend/cpu/row_kernels.h"

namespace tandem {

// The kernels over one instruction set.
template <typename S>
constexpr CpuKernels TableOf(const char* name) {
  static_assert(S::kRowTile <= kRowTileMax);
  return {.name = name,
          .row_tile = S::kRowTile,
          .padded_rows = PaddedRows<S>,
          .pack_rows = PackRows<S>,
          .linear = RunLinear<S>,
          .fixed_tile = S::kFixedTile,
          .pack_fixed = PackFixed<S>,
          .fixed_linear = RunFixedLinear<S>,
          .attention = RunAttention<S>,
          .rms_norm = RunRmsNorm<S>,
          .swiglu = RunSwiGlu<S>};
}

}  // namespace tandem
