#include "worker/model/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "worker/model/dequant.h"
#include "worker/model/stored_codes.h"

namespace tandem {
namespace {

constexpr int kGroup = 32;

// The value of the largest magnitude, the first of equals, with its sign; not finite where one of
// them is not.
float Extreme(const float* x) {
  float most[4] = {}, flaw[4] = {};  // by lanes, so that the compiler makes vectors of them
  for (int i = 0; i < kGroup; ++i) {
    const float size = std::abs(x[i]);
    most[i % 4] = size > most[i % 4] ? size : most[i % 4];
    flaw[i % 4] += x[i] * 0.0f;  // NaN where it is not finite
  }
  if (const float sum = flaw[0] + flaw[1] + flaw[2] + flaw[3]; sum != 0) return sum;
  const float largest = std::max(std::max(most[0], most[1]), std::max(most[2], most[3]));
  return *std::find_if(x, x + kGroup, [&](float value) { return std::abs(value) == largest; });
}

// The codes nearest to x / scale, in [low, high].
void NearestCodes(const float* x, float scale, float low, float high, int* codes) {
  const float inverse = scale == 0 ? 0.f : 1.f / scale;
  for (int i = 0; i < kGroup; ++i) {
    float code = x[i] * inverse;
    code = code < low ? low : code;
    code = code > high ? high : code;
    codes[i] = static_cast<int>(code + std::copysign(0.5f, code));
  }
}

// Writes `scale` in front of a block and returns what it became.
float PutScale(float scale, uint8_t* block) {
  const uint16_t half = NearestHalf(scale);
  std::memcpy(block, &half, sizeof(half));
  return HalfToFloat(half);
}

void QuantizeQ8(const float* x, float extreme, uint8_t* block) {
  const float scale = PutScale(std::abs(extreme) / 127, block);
  int codes[kGroup];
  NearestCodes(x, scale, -127, 127, codes);
  for (int i = 0; i < kGroup; ++i) block[2 + i] = static_cast<uint8_t>(codes[i]);
}

void QuantizeQ4(const float* x, float extreme, uint8_t* block) {
  constexpr StoredCodes kCodes = StoredCodesOf(DType::kQ4_0);
  const float scale = PutScale(extreme / -8, block);
  int codes[kGroup];
  NearestCodes(x, scale, -8, 7, codes);
  static_assert(kCodes.low_at == 2 && kCodes.low_run == kGroup / 2);
  for (int i = 0; i < kGroup / 2; ++i) {
    block[2 + i] = static_cast<uint8_t>((codes[i] + 8) | (codes[i + kGroup / 2] + 8) << 4);
  }
}

// Rows [first, last) of the file into their places.
absl::Status QuantizeRows(const WeightView& weight, DType to, int64_t first, int64_t last,
                          uint8_t* blocks) {
  const size_t block_bytes = InfoOf(to).block_bytes;
  const size_t row_bytes = weight.bytes / weight.rows;
  uint8_t* block = blocks + first * BytesFor(to, weight.cols);
  std::vector<float> row(weight.cols);
  for (int64_t r = first; r < last; ++r) {
    Dequantize(weight.dtype, weight.data + r * row_bytes, absl::MakeSpan(row));
    for (int64_t k = 0; k < weight.cols; k += kGroup, block += block_bytes) {
      const float extreme = Extreme(row.data() + k);
      if (!std::isfinite(extreme)) {
        return absl::InvalidArgumentError(
            absl::StrCat("weight \"", weight.name, "\": row ", r,
                         " has a value that is not finite near column ", k, ", and so no scale"));
      }
      (to == DType::kQ8_0 ? QuantizeQ8 : QuantizeQ4)(row.data() + k, extreme, block);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view NameOf(WeightScheme scheme) {
  switch (scheme) {
    case WeightScheme::kStored:
      return "";
    case WeightScheme::kInt8:
      return "int8";
    case WeightScheme::kInt4:
      return "int4";
  }
  return "";
}

DType TypeUnder(WeightScheme scheme, absl::string_view weight_name, const WeightView& view) {
  const bool keep = scheme == WeightScheme::kStored || IsQuantized(view.dtype);
  if (keep || view.cols % kGroup != 0) return view.dtype;
  const bool outer = weight_name == "embed" || weight_name == "lm_head";
  return scheme == WeightScheme::kInt8 || outer ? DType::kQ8_0 : DType::kQ4_0;
}

absl::StatusOr<QuantizedWeight> Quantize(const WeightView& weight, DType to, int threads) {
  QuantizedWeight quantized{std::vector<uint8_t>(weight.rows * BytesFor(to, weight.cols)), weight};
  std::vector<absl::Status> results(threads);
  {
    std::vector<std::jthread> others;
    const auto share = [&](int thread) {
      results[thread] = QuantizeRows(weight, to, weight.rows * thread / threads,
                                     weight.rows * (thread + 1) / threads, quantized.blocks.data());
    };
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(share, thread);
    share(0);
  }
  for (const absl::Status& result : results) RETURN_IF_ERROR(result);
  quantized.view.dtype = to;
  quantized.view.data = quantized.blocks.data();
  quantized.view.bytes = quantized.blocks.size();
  return quantized;
}

uint16_t NearestHalf(float value) {
  constexpr float kLargest = 65504, kSmallestNormal = 0x1p-14f;
  const uint32_t sign = std::bit_cast<uint32_t>(value) >> 16 & 0x8000;
  const float size = std::min(std::abs(value), kLargest);
  // Adding 2^13 times a number's power of two, or what makes the last place 2^-24, rounds it to the
  // places of a half.
  const uint32_t exponent = std::bit_cast<uint32_t>(std::max(size, kSmallestNormal)) & 0x7f800000;
  const float shift = std::bit_cast<float>(exponent + (13u << 23));
  const float rounded = (size + shift) - shift;
  if (rounded < kSmallestNormal) {
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(rounded * 0x1p24f));
  }
  return static_cast<uint16_t>(sign | ((std::bit_cast<uint32_t>(rounded) - (112u << 23)) >> 13));
}

}  // namespace tandem
