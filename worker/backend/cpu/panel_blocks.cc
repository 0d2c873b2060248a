#include "worker/backend/cpu/panel_blocks.h"

#include <cstring>
#include <type_traits>

#include "absl/types/span.h"
#include "worker/backend/cpu/kernels.h"
#include "worker/model/stored_codes.h"

namespace tandem {
namespace {

// Parts of a stored block that move as they are: `count` units of `bytes` bytes, one after another
// from byte `from` on. A panel has 16 lanes of the first, then 16 of the second, and so on.
struct Units {
  int from, bytes, count;
};

// In the order that they have in a step, behind the codes.
absl::Span<const Units> UnitsOf(DType dtype) {
  static constexpr Units kQ8[] = {{2, 4, 8}, {0, 2, 1}};
  static constexpr Units kQ4[] = {{0, 2, 1}};
  static constexpr Units kQ41[] = {{0, 2, 2}};
  static constexpr Units kQ45K[] = {{4, 4, 3}, {0, 2, 2}};
  static constexpr Units kQ6K[] = {{192, 1, 16}, {208, 2, 1}};
  switch (dtype) {
    case DType::kQ8_0:
      return kQ8;
    case DType::kQ4_0:
      return kQ4;
    case DType::kQ4_1:
      return kQ41;
    case DType::kQ4_K:
    case DType::kQ5_K:
      return kQ45K;
    case DType::kQ6_K:
      return kQ6K;
    default:
      return {};
  }
}

constexpr int kWordBits = 32;
constexpr size_t kWordRowBytes = size_t{kLanes} * sizeof(uint32_t);

constexpr int WordsOf(DType dtype) {
  const StoredCodes codes = StoredCodesOf(dtype);
  return InfoOf(dtype).block_elements * (4 + codes.high_bits) / kWordBits;
}

// Calls move(word, shift, bits, place) for the low bits of each code of a block, and then for the
// high ones where there are some: their place in the words of a lane, and in the stored block.
template <DType kType, typename Move>
void ForCodes(Move move) {
  constexpr StoredCodes kCodes = StoredCodesOf(kType);
  constexpr int kElements = InfoOf(kType).block_elements;
  for (int k = 0; k < kElements; ++k) {
    const int shift = kElements == 32 ? k % 4 * 8 + k % 8 / 4 * 4 : k % 8 * 4;
    move(k / 8, shift, 4, kCodes.Low(k));
  }
  if constexpr (kCodes.high_bits > 0) {
    constexpr int kInWord = kWordBits / kCodes.high_bits;
    for (int k = 0; k < kElements; ++k) {
      move(kElements / 8 + k / kInWord, k % kInWord * kCodes.high_bits, kCodes.high_bits,
           kCodes.High(k));
    }
  }
}

// Return where the codes end in the step.
template <DType kType>
uint8_t* PackCodes(const uint8_t* block, int lane, uint8_t* step) {
  uint32_t words[WordsOf(kType)] = {};
  ForCodes<kType>([&](int word, int shift, int bits, BitPlace place) {
    words[word] |= (block[place.byte] >> place.shift & ((1u << bits) - 1)) << shift;
  });
  for (const uint32_t word : words) {
    std::memcpy(step + lane * sizeof(word), &word, sizeof(word));
    step += kWordRowBytes;
  }
  return step;
}

template <DType kType>
const uint8_t* UnpackCodes(const uint8_t* step, int lane, uint8_t* block) {
  uint32_t words[WordsOf(kType)];
  for (uint32_t& word : words) {
    std::memcpy(&word, step + lane * sizeof(word), sizeof(word));
    step += kWordRowBytes;
  }
  ForCodes<kType>([&](int word, int shift, int bits, BitPlace place) {
    const uint32_t code = words[word] >> shift & ((1u << bits) - 1);
    block[place.byte] = static_cast<uint8_t>(block[place.byte] | code << place.shift);
  });
  return step;
}

// Calls f(type) with the type as a constant, where its blocks have codes of less than 8 bits.
template <typename F>
void WithCodes(DType dtype, F f) {
  switch (dtype) {
    case DType::kQ4_0:
      return f(std::integral_constant<DType, DType::kQ4_0>());
    case DType::kQ4_1:
      return f(std::integral_constant<DType, DType::kQ4_1>());
    case DType::kQ4_K:
      return f(std::integral_constant<DType, DType::kQ4_K>());
    case DType::kQ5_K:
      return f(std::integral_constant<DType, DType::kQ5_K>());
    case DType::kQ6_K:
      return f(std::integral_constant<DType, DType::kQ6_K>());
    default:
      return;
  }
}

// Turns codes from -128 to 127 into 0 to 255, and back.
void FlipSigns(uint8_t* q8_block) {
  for (int i = 2; i < 34; ++i) q8_block[i] ^= 0x80;
}

}  // namespace

void PackBlock(DType dtype, const uint8_t* block, int lane, uint8_t* step) {
  uint8_t flipped[34];
  if (dtype == DType::kQ8_0) {
    std::memcpy(flipped, block, sizeof(flipped));
    FlipSigns(flipped);
    block = flipped;
  }
  WithCodes(dtype, [&](auto type) { step = PackCodes<type()>(block, lane, step); });
  for (const Units& units : UnitsOf(dtype)) {
    for (int i = 0; i < units.count; ++i, step += kLanes * units.bytes) {
      std::memcpy(step + lane * units.bytes, block + units.from + i * units.bytes, units.bytes);
    }
  }
}

void UnpackBlock(DType dtype, const uint8_t* step, int lane, uint8_t* block) {
  std::memset(block, 0, InfoOf(dtype).block_bytes);
  WithCodes(dtype, [&](auto type) { step = UnpackCodes<type()>(step, lane, block); });
  for (const Units& units : UnitsOf(dtype)) {
    for (int i = 0; i < units.count; ++i, step += kLanes * units.bytes) {
      std::memcpy(block + units.from + i * units.bytes, step + lane * units.bytes, units.bytes);
    }
  }
  if (dtype == DType::kQ8_0) FlipSigns(block);
}

}  // namespace tandem
