#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "worker/model/dtype.h"

namespace tandem {

// One weight where it lies in its file; owns nothing but the names and the row order.
//   shape   row-major [rows, cols], rows = outputs and cols = inputs; a vector has rows = 1
//   units   a row starts every bytes / rows bytes, at any alignment: load with memcpy
//   life    valid while its ModelFiles is
struct WeightView {
  std::string name;  // as the file spells it
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const uint8_t* data = nullptr;
  size_t bytes = 0;
  // Row i of the matrix is stored as row row_order[i]; empty when the file's order is the model's.
  // GGUF stores q and k of the Llama family with the rows of each head reordered.
  std::vector<int32_t> row_order;

  const uint8_t* Row(int64_t row) const {
    const int64_t stored = row_order.empty() ? row : row_order[row];
    return data + stored * (bytes / rows);
  }
};

}  // namespace tandem
