#include "worker/backend/cpu/kernel_table.h"
#include "worker/backend/cpu/simd_scalar.h"

namespace tandem {

const CpuKernels& ScalarKernels() {
  static constexpr CpuKernels kTable = TableOf<Scalar>("scalar");
  return kTable;
}

}  // namespace tandem
