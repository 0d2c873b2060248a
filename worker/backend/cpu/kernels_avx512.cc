#include "worker/backend/cpu/kernel_table.h"
#include "worker/backend/cpu/simd_avx512.h"

namespace tandem {

const CpuKernels& Avx512Kernels() {
  static constexpr CpuKernels kTable = TableOf<Avx512>("avx512");
  return kTable;
}

}  // namespace tandem
