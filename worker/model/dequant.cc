#include "worker/model/dequant.h"

#include <bit>
#include <cstring>

namespace tandem {
namespace {

template <typename T>
T Load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

void DequantizeQ8(const uint8_t* block, float* out) {
  const float d = HalfToFloat(Load<uint16_t>(block));
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(Load<int8_t>(block + 2 + i));
}

// value = d * (code - zero) + m
void DequantizeQ4(const uint8_t* codes, float d, int zero, float m, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((codes[i] & 0xf) - zero) + m;
    out[i + 16] = d * static_cast<float>((codes[i] >> 4) - zero) + m;
  }
}

void DequantizeBlock(DType dtype, const uint8_t* block, float* out) {
  switch (dtype) {
    case DType::kF32:
      *out = Load<float>(block);
      break;
    case DType::kF16:
      *out = HalfToFloat(Load<uint16_t>(block));
      break;
    case DType::kBF16:
      *out = std::bit_cast<float>(uint32_t{Load<uint16_t>(block)} << 16);
      break;
    case DType::kQ8_0:
      DequantizeQ8(block, out);
      break;
    case DType::kQ4_0:
      DequantizeQ4(block + 2, HalfToFloat(Load<uint16_t>(block)), 8, 0, out);
      break;
    case DType::kQ4_1:
      DequantizeQ4(block + 4, HalfToFloat(Load<uint16_t>(block)), 0,
                   HalfToFloat(Load<uint16_t>(block + 2)), out);
      break;
  }
}

}  // namespace

float HalfToFloat(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t fraction = half & 0x3ff;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24, exact in float32
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t widened = exponent == 0x1f ? 0xff : exponent + 127 - 15;
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

void Dequantize(DType dtype, const uint8_t* stored, absl::Span<float> out) {
  const DTypeInfo info = InfoOf(dtype);
  for (size_t i = 0; i < out.size(); i += info.block_elements) {
    DequantizeBlock(dtype, stored, out.data() + i);
    stored += info.block_bytes;
  }
}

void DequantizeRow(const WeightView& view, int64_t row, absl::Span<float> out) {
  Dequantize(view.dtype, view.Row(row), out);
}

}  // namespace tandem
