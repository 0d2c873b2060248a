#pragma once
#include <cstdint>

#include "absl/types/span.h"
#include "worker/model/dtype.h"
#include "worker/model/weight_view.h"

namespace tandem {

// The float32 values of stored elements, by the definitions in dtype.h: each product and sum is
// rounded once to float32. Plain loops: the oracle of the kernels, and what packing is built from.
//   shape  out.size() elements, a whole number of blocks; `stored` at any alignment
void Dequantize(DType dtype, const uint8_t* stored, absl::Span<float> out);

// Row `row` of the model's matrix (the view's row order applied); out.size() == view.cols.
void DequantizeRow(const WeightView& view, int64_t row, absl::Span<float> out);

// IEEE half precision, subnormals, infinities and NaNs included.
float HalfToFloat(uint16_t half);

}  // namespace tandem
