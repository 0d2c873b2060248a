#pragma once
#include <cstdint>

#include "worker/model/dtype.h"

namespace tandem {

// Some bits of one byte of a block.
struct BitPlace {
  int byte = 0, shift = 0;
};

// Where a block of less than 8 bits an element keeps the code of its element k: 4 bits in one
// place, and `high_bits` above them in another.
struct StoredCodes {
  int low_at = 0;     // byte of the block
  int low_run = 0;    // elements whose low bits are in neighbouring bytes; then come as many in the
                      // high halves of the same bytes
  int high_bits = 0;  // 0, 1 or 2
  int high_at = 0;    // byte of the block

  constexpr BitPlace Low(int k) const {
    const int pair = 2 * low_run;
    return {low_at + k / pair * low_run + k % low_run, k % pair / low_run * 4};
  }
  // The high bits of elements k, k + 32, ... share a byte.
  constexpr BitPlace High(int k) const {
    const int in_byte = 8 / high_bits, span = 32 * in_byte;
    return {high_at + k / span * 32 + k % 32, k % span / 32 * high_bits};
  }
};

constexpr StoredCodes StoredCodesOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {.low_at = 2, .low_run = 16};
    case DType::kQ4_1:
      return {.low_at = 4, .low_run = 16};
    case DType::kQ4_K:
      return {.low_at = 16, .low_run = 32};
    case DType::kQ5_K:
      return {.low_at = 48, .low_run = 32, .high_bits = 1, .high_at = 16};
    case DType::kQ6_K:
      return {.low_at = 0, .low_run = 64, .high_bits = 2, .high_at = 128};
    default:
      return {};
  }
}

// The code of element k of a block of such a type.
constexpr uint32_t CodeAt(const StoredCodes& codes, const uint8_t* block, int k) {
  const BitPlace low = codes.Low(k);
  uint32_t code = block[low.byte] >> low.shift & 15;
  if (codes.high_bits > 0) {
    const BitPlace high = codes.High(k);
    code |= (block[high.byte] >> high.shift & ((1u << codes.high_bits) - 1)) << 4;
  }
  return code;
}

}  // namespace tandem
