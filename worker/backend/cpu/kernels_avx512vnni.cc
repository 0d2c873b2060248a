#include "worker/backend/cpu/fixed_linear.h"
#include "worker/backend/cpu/simd_avx512vnni.h"

namespace tandem {

const CpuKernels& Avx512VnniKernels() {
  static const CpuKernels kTable = [] {
    CpuKernels table = Avx512Kernels();
    table.name = "avx512vnni";
    table.fixed_tile = Avx512Vnni::kFixedTile;
    table.pack_fixed = PackFixed<Avx512Vnni>;
    table.fixed_linear = RunFixedLinear<Avx512Vnni>;
    return table;
  }();
  return kTable;
}

}  // namespace tandem
