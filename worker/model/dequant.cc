#include "worker/model/dequant.h"

#include <bit>
#include <cstring>

#include "worker/model/stored_codes.h"

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
template <DType kType>
void DequantizeQ4(const uint8_t* block, int zero, float m, float* out) {
  constexpr StoredCodes kCodes = StoredCodesOf(kType);
  const float d = HalfToFloat(Load<uint16_t>(block));
  for (int k = 0; k < 32; ++k) {
    out[k] = d * static_cast<float>(static_cast<int>(CodeAt(kCodes, block, k)) - zero) + m;
  }
}

// The scale and the min of 32 elements of a Q4_K or Q5_K block.
struct SubBlock {
  int scale = 0, min = 0;
};

SubBlock SubBlockAt(const uint8_t* scales, int index) {
  if (index < 4) return {scales[index] & 63, scales[4 + index] & 63};
  const int low = scales[4 + index];
  return {(low & 15) | scales[index - 4] >> 6 << 4, low >> 4 | scales[index] >> 6 << 4};
}

template <DType kType>
void DequantizeQ45K(const uint8_t* block, float* out) {
  constexpr StoredCodes kCodes = StoredCodesOf(kType);
  const float d = HalfToFloat(Load<uint16_t>(block));
  const float dmin = HalfToFloat(Load<uint16_t>(block + 2));
  for (int k = 0; k < 256; ++k) {
    const SubBlock sub = SubBlockAt(block + 4, k / 32);
    const float scale = d * static_cast<float>(sub.scale);
    const float min = dmin * static_cast<float>(sub.min);
    out[k] = scale * static_cast<float>(CodeAt(kCodes, block, k)) - min;
  }
}

void DequantizeQ6K(const uint8_t* block, float* out) {
  const float d = HalfToFloat(Load<uint16_t>(block + 208));
  constexpr StoredCodes kCodes = StoredCodesOf(DType::kQ6_K);
  for (int k = 0; k < 256; ++k) {
    const float scale = d * static_cast<float>(Load<int8_t>(block + 192 + k / 16));
    out[k] = scale * static_cast<float>(static_cast<int>(CodeAt(kCodes, block, k)) - 32);
  }
}

void DequantizeBlock(DType dtype, const uint8_t* block, float* out) {
  switch (dtype) {
    case DType::kQ8_0:
      DequantizeQ8(block, out);
      break;
    case DType::kQ4_0:
      DequantizeQ4<DType::kQ4_0>(block, 8, 0, out);
      break;
    case DType::kQ4_1:
      DequantizeQ4<DType::kQ4_1>(block, 0, HalfToFloat(Load<uint16_t>(block + 2)), out);
      break;
    case DType::kQ4_K:
      DequantizeQ45K<DType::kQ4_K>(block, out);
      break;
    case DType::kQ5_K:
      DequantizeQ45K<DType::kQ5_K>(block, out);
      break;
    case DType::kQ6_K:
      DequantizeQ6K(block, out);
      break;
    default:
      break;
  }
}

template <typename T, typename Convert>
void ConvertElements(const uint8_t* stored, absl::Span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = convert(Load<T>(stored + i * sizeof(T)));
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
  switch (dtype) {
    case DType::kF32:
      return ConvertElements<float>(stored, out, [](float x) { return x; });
    case DType::kF16:
      return ConvertElements<uint16_t>(stored, out, HalfToFloat);
    case DType::kBF16:
      return ConvertElements<uint16_t>(
          stored, out, [](uint16_t x) { return std::bit_cast<float>(uint32_t{x} << 16); });
    default:
      break;
  }
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
