#include "worker/backend/cpu/panel_blocks.h"

#include <cstring>
#include <type_traits>

#include "absl/types/span.h"
#include "worker/backend/cpu/kernels.h"
#include "worker/model/stored_codes.h"

namespace tandem {
namespace {

// Parts of a stored block that move as they are: `count` units of `bytes` bytes, one after another
// from byte `from` on. A step has a row of 16 lanes of the first, then one of the second, and so
// on.
struct Units {
  int from, bytes, count;
};

// In the order that they have in a step, behind the codes.
absl::Span<const Units> UnitsOf(DType dtype) {
  static constexpr Units kScale[] = {{0, 2, 1}};
  static constexpr Units kQ41[] = {{0, 2, 2}};
  static constexpr Units kQ45K[] = {{4, 4, 3}, {0, 2, 2}};
  static constexpr Units kQ6K[] = {{192, 1, 16}, {208, 2, 1}};
  switch (dtype) {
    case DType::kQ8_0:
    case DType::kQ4_0:
      return kScale;
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

// Codes from -128 to 127 become 0 to 255, and the reverse.
constexpr uint32_t kSigns = 0x80808080;

constexpr int WordsOf(DType dtype) {
  const int high_bits = dtype == DType::kQ8_0 ? 4 : StoredCodesOf(dtype).high_bits;
  return InfoOf(dtype).block_elements * (4 + high_bits) / kWordBits;
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

uint32_t WordAt(const uint8_t* from) {
  uint32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

// The codes of a block as the words of its lane: words[i * kLanes].
template <DType kType>
void CodesToWords(const uint8_t* block, uint32_t* words) {
  if constexpr (kType == DType::kQ8_0) {
    for (int i = 0; i < WordsOf(kType); ++i) words[i * kLanes] = WordAt(block + 2 + 4 * i) ^ kSigns;
  } else if constexpr (InfoOf(kType).block_elements == 32) {
    constexpr uint32_t kHalves = 0x0f0f0f0f;
    const uint8_t* const codes = block + StoredCodesOf(kType).low_at;
    for (int i = 0; i < 2; ++i) {
      const uint32_t first = WordAt(codes + 8 * i), second = WordAt(codes + 8 * i + 4);
      words[i * kLanes] = (first & kHalves) | (second & kHalves) << 4;
      words[(i + 2) * kLanes] = (first >> 4 & kHalves) | (second & ~kHalves);
    }
  } else {
    for (int i = 0; i < WordsOf(kType); ++i) words[i * kLanes] = 0;
    ForCodes<kType>([&](int word, int shift, int bits, BitPlace place) {
      words[word * kLanes] |= (block[place.byte] >> place.shift & ((1u << bits) - 1)) << shift;
    });
  }
}

template <DType kType>
void WordsToCodes(const uint32_t* words, uint8_t* block) {
  if constexpr (kType == DType::kQ8_0) {
    for (int i = 0; i < WordsOf(kType); ++i) {
      const uint32_t word = words[i] ^ kSigns;
      std::memcpy(block + 2 + 4 * i, &word, sizeof(word));
    }
  } else {
    ForCodes<kType>([&](int word, int shift, int bits, BitPlace place) {
      const uint32_t code = words[word] >> shift & ((1u << bits) - 1);
      block[place.byte] = static_cast<uint8_t>(block[place.byte] | code << place.shift);
    });
  }
}

// Lanes are gathered here first, so that a step's rows are written whole.
template <DType kType>
void PackStep(const uint8_t* const* blocks, int lanes, const BlockStep& step) {
  uint32_t words[WordsOf(kType)][kLanes] = {};
  for (int i = 0; i < lanes; ++i) CodesToWords<kType>(blocks[i], &words[0][i]);
  size_t offset = 0;
  for (const auto& row : words) {
    std::memcpy(step.Row(offset, kWordRowBytes), row, kWordRowBytes);
    offset += kWordRowBytes;
  }
  for (const Units& units : UnitsOf(kType)) {
    const size_t row_bytes = size_t{kLanes} * units.bytes;
    for (int u = 0; u < units.count; ++u, offset += row_bytes) {
      uint8_t* const row = step.Row(offset, row_bytes);
      std::memset(row, 0, row_bytes);
      for (int i = 0; i < lanes; ++i) {
        std::memcpy(row + i * units.bytes, blocks[i] + units.from + u * units.bytes, units.bytes);
      }
    }
  }
}

template <DType kType>
void UnpackLane(const BlockStep& step, int lane, uint8_t* block) {
  std::memset(block, 0, InfoOf(kType).block_bytes);
  uint32_t words[WordsOf(kType)];
  size_t offset = 0;
  for (uint32_t& word : words) {
    word = WordAt(step.Row(offset, kWordRowBytes) + lane * sizeof(word));
    offset += kWordRowBytes;
  }
  WordsToCodes<kType>(words, block);
  for (const Units& units : UnitsOf(kType)) {
    const size_t row_bytes = size_t{kLanes} * units.bytes;
    for (int u = 0; u < units.count; ++u, offset += row_bytes) {
      std::memcpy(block + units.from + u * units.bytes,
                  step.Row(offset, row_bytes) + lane * units.bytes, units.bytes);
    }
  }
}

// Calls f(type) with the type, a quantised one, as a constant.
template <typename F>
void WithType(DType dtype, F f) {
  switch (dtype) {
    case DType::kQ8_0:
      return f(std::integral_constant<DType, DType::kQ8_0>());
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

}  // namespace

void PackBlocks(DType dtype, const uint8_t* const* blocks, int lanes, const BlockStep& step) {
  WithType(dtype, [&](auto type) { PackStep<type()>(blocks, lanes, step); });
}

void UnpackBlock(DType dtype, const BlockStep& step, int lane, uint8_t* block) {
  WithType(dtype, [&](auto type) { UnpackLane<type()>(step, lane, block); });
}

}  // namespace tandem
