#pragma once
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tandem {

// How the elements of a tensor are stored. The quantised types are ggml's: a row is a sequence of
// blocks of 32 elements, and a block is its scale(s) followed by its codes:
//   kQ8_0  d: f16, 32 x int8                        value = d * code
//   kQ4_0  d: f16, 16 bytes of two 4-bit codes      value = d * (code - 8)
//   kQ4_1  d: f16, m: f16, 16 bytes of two codes    value = d * code + m
// Byte j of a 4-bit block holds element j in its low and element j + 16 in its high half.
enum class DType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1 };

inline constexpr DType kAllDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                                       DType::kQ8_0, DType::kQ4_0, DType::kQ4_1};

struct DTypeInfo {
  absl::string_view name;      // as ggml spells it; "F32", "F16" and "BF16" also in safetensors
  int32_t block_elements = 1;  // elements stored together; a row is a whole number of blocks
  int32_t block_bytes = 0;
};

constexpr DTypeInfo InfoOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {"F32", 1, 4};
    case DType::kF16:
      return {"F16", 1, 2};
    case DType::kBF16:
      return {"BF16", 1, 2};
    case DType::kQ8_0:
      return {"Q8_0", 32, 34};
    case DType::kQ4_0:
      return {"Q4_0", 32, 18};
    case DType::kQ4_1:
      return {"Q4_1", 32, 20};
  }
  return {};
}

constexpr absl::string_view NameOf(DType dtype) { return InfoOf(dtype).name; }

constexpr bool IsQuantized(DType dtype) { return InfoOf(dtype).block_elements > 1; }

// Bytes of `elements` stored elements; `elements` is a whole number of blocks and the product fits.
constexpr size_t BytesFor(DType dtype, int64_t elements) {
  const DTypeInfo info = InfoOf(dtype);
  return static_cast<size_t>(elements / info.block_elements) *
         static_cast<size_t>(info.block_bytes);
}

}  // namespace tandem
