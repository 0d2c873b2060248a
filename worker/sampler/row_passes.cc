#include "worker/sampler/row_passes.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "worker/sampler/exact_math.h"

// Each pass is written once, in GCC's vectors of `kBytes`, and compiled for each instruction set:
// [[gnu::target]] is on what calls it, [[gnu::always_inline]] on all that it calls.
namespace tandem {
namespace {

constexpr size_t kLanes = 16;
constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kLowest = -std::numeric_limits<float>::infinity();

template <size_t kBytes>
struct Vectors {
  using Floats [[gnu::vector_size(kBytes)]] = float;
  using Flags [[gnu::vector_size(kBytes)]] = int32_t;
  using Halves [[gnu::vector_size(kBytes / 2)]] = float;
  using Doubles [[gnu::vector_size(kBytes)]] = double;
  using Bits [[gnu::vector_size(kBytes)]] = uint64_t;
  static constexpr size_t kFloats = kBytes / sizeof(float), kDoubles = kBytes / sizeof(double);
};

template <size_t kBytes>
[[gnu::always_inline]] inline double SumLanes(absl::Span<const float> logits, double max,
                                              double temperature) {
  using V = Vectors<kBytes>;
  constexpr size_t kParts = kLanes / V::kDoubles;
  typename V::Doubles sums[kParts] = {};
  const size_t whole = logits.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t part = 0; part < kParts; ++part) {
      typename V::Halves some;
      std::memcpy(&some, logits.data() + i + part * V::kDoubles, sizeof(some));
      const typename V::Doubles from_max = __builtin_convertvector(some, typename V::Doubles) - max;
      sums[part] += ExactExpOf<typename V::Doubles, typename V::Bits>(from_max / temperature);
    }
  }
  double lanes[kLanes];
  std::memcpy(lanes, sums, sizeof(lanes));
  for (size_t i = whole; i < logits.size(); ++i) {
    lanes[i - whole] += ExactExp((double{logits[i]} - max) / temperature);
  }
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

template <size_t kBytes>
[[gnu::always_inline]] inline RowMax MaxLanes(absl::Span<const float> logits) {
  using V = Vectors<kBytes>;
  typename V::Floats largest = typename V::Floats{} + kLowest, some;
  typename V::Flags good = typename V::Flags{} - 1;
  const size_t whole = logits.size() / V::kFloats * V::kFloats;
  for (size_t i = 0; i < whole; i += V::kFloats) {
    std::memcpy(&some, logits.data() + i, sizeof(some));
    largest = some > largest ? some : largest;
    good &= some <= kLargest;  // NaN is not
  }
  RowMax out = {kLowest, true};
  for (size_t lane = 0; lane < V::kFloats; ++lane) {
    out.max = largest[lane] > out.max ? largest[lane] : out.max;
    out.finite &= good[lane] != 0;
  }
  for (size_t i = whole; i < logits.size(); ++i) {
    out.max = logits[i] > out.max ? logits[i] : out.max;
    out.finite &= logits[i] <= kLargest;
  }
  return out;
}

template <size_t kBytes>
[[gnu::always_inline]] inline void MaximaOfBlocks(absl::Span<const float> logits,
                                                  absl::Span<float> out) {
  using V = Vectors<kBytes>;
  const size_t whole = logits.size() / kMaxBlock;
  for (size_t block = 0; block < whole; ++block) {
    typename V::Floats largest = typename V::Floats{} + kLowest, some;
    for (size_t i = 0; i < kMaxBlock; i += V::kFloats) {
      std::memcpy(&some, logits.data() + block * kMaxBlock + i, sizeof(some));
      largest = some > largest ? some : largest;
    }
    out[block] = kLowest;
    for (size_t lane = 0; lane < V::kFloats; ++lane) {
      out[block] = largest[lane] > out[block] ? largest[lane] : out[block];
    }
  }
  const absl::Span<const float> rest = logits.subspan(whole * kMaxBlock);
  if (!rest.empty()) out[whole] = *std::max_element(rest.begin(), rest.end());
}

struct Plain {
  static double Sum(absl::Span<const float> logits, float max, double temperature) {
    return SumLanes<16>(logits, max, temperature);
  }
  static RowMax Max(absl::Span<const float> logits) { return MaxLanes<16>(logits); }
  static void Maxima(absl::Span<const float> logits, absl::Span<float> out) {
    MaximaOfBlocks<16>(logits, out);
  }
};

struct Avx2 {
  [[gnu::target("avx2")]] static double Sum(absl::Span<const float> logits, float max,
                                            double temperature) {
    return SumLanes<32>(logits, max, temperature);
  }
  [[gnu::target("avx2")]] static RowMax Max(absl::Span<const float> logits) {
    return MaxLanes<32>(logits);
  }
  [[gnu::target("avx2")]] static void Maxima(absl::Span<const float> logits,
                                             absl::Span<float> out) {
    MaximaOfBlocks<32>(logits, out);
  }
};

struct Avx512 {
  [[gnu::target("avx512f,avx512dq,avx512vl")]] static double Sum(absl::Span<const float> logits,
                                                                 float max, double temperature) {
    return SumLanes<64>(logits, max, temperature);
  }
  [[gnu::target("avx512f,avx512dq,avx512vl")]] static RowMax Max(absl::Span<const float> logits) {
    return MaxLanes<64>(logits);
  }
  [[gnu::target("avx512f,avx512dq,avx512vl")]] static void Maxima(absl::Span<const float> logits,
                                                                  absl::Span<float> out) {
    MaximaOfBlocks<64>(logits, out);
  }
};

constexpr RowPasses kPasses[] = {{"plain", Plain::Sum, Plain::Max, Plain::Maxima},
                                 {"avx2", Avx2::Sum, Avx2::Max, Avx2::Maxima},
                                 {"avx512", Avx512::Sum, Avx512::Max, Avx512::Maxima}};

size_t SetsOfThisMachine() {
  if (!__builtin_cpu_supports("avx2")) return 1;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  return avx512 ? 3 : 2;
}

}  // namespace

absl::Span<const RowPasses> RowPassesHere() {
  static const size_t sets = SetsOfThisMachine();
  return absl::MakeConstSpan(kPasses, sets);
}

}  // namespace tandem
