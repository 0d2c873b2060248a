#include "worker/backend/cpu/kernel_table.h"
#include "worker/backend/cpu/simd_avx2.h"

namespace tandem {

const CpuKernels& Avx2Kernels() {
  static constexpr CpuKernels kTable = TableOf<Avx2>("avx2");
  return kTable;
}

}  // namespace tandem
