#pragma once
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tandem {

// How the elements of a tensor are stored. The quantised types are ggml's: a row is a sequence of
// blocks. Those of 32 elements are their scale(s) followed by their codes:
//   kQ8_0  d: f16, 32 x int8                        value = d * code
//   kQ4_0  d: f16, 16 bytes of two 4-bit codes      value = d * (code - 8)
//   kQ4_1  d: f16, m: f16, 16 bytes of two codes    value = d * code + m
// Byte j of a 4-bit block holds element j in its low and element j + 16 in its high half.
// Those of 256 elements have scales within scales:
//   kQ4_K  d: f16, dmin: f16, 12 bytes of scales, 128 of codes
//   kQ5_K  d: f16, dmin: f16, 12 bytes of scales, 32 of the codes' highest bits, 128 of the rest
//          value = d * scale * code - dmin * min, with a 6-bit scale and min for each 32 elements.
//          Bytes 0-3 of the scales hold scale 0-3 in their low 6 bits, bytes 4-7 min 0-3, bytes
//          8-11 the low 4 bits of scale 4-7 and, above them, of min 4-7; what is left of bytes 0-3
//          and 4-7 are the high 2 bits of scale 4-7 and min 4-7.
//   kQ6_K  128 bytes of the codes' low 4 bits, 64 of their high 2, 16 x int8 scales, d: f16
//          value = d * scale * (code - 32), with a scale for each 16 elements
// stored_codes.h says which bits are an element's code.
enum class DType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ4_K, kQ5_K, kQ6_K };

inline constexpr DType kAllDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                                       DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
                                       DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

inline constexpr int32_t kBlockElementsMax = 256;
inline constexpr int32_t kBlockBytesMax = 210;

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
    case DType::kQ4_K:
      return {"Q4_K", 256, 144};
    case DType::kQ5_K:
      return {"Q5_K", 256, 176};
    case DType::kQ6_K:
      return {"Q6_K", 256, 210};
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
