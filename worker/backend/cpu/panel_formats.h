#pragma once
#include <cstdint>

#include "worker/backend/cpu/kernels.h"

// How the weights of one panel lie in memory and become float32 lanes. A panel holds 16 outputs;
// per step of kStep inputs it has kStepBytes bytes:
//   F32, F16     16 elements, of one input
//   BF16         16 words, each of two neighbouring inputs, the first in the low half
//   Q8_0         8 rows of 16 words, each of the codes of 4 neighbouring inputs, plus 128, then 16
//                scales d
//   Q4_0, Q4_1   4 rows of 16 words, each of the codes of 8 neighbouring inputs: the first 4 in the
//                low halves of its bytes, the others in the high ones; then 16 scales d, then
//                (Q4_1) 16 offsets m
//   Q4_K, Q5_K   32 rows of 16 words of 8 codes, or of their low 4 bits; then (Q5_K) 8 rows of 16
//                words of the high bits of 32 inputs; then 3 rows of 16 words, each 4 of the 12
//                bytes of scales of dtype.h; then 16 of d and 16 of dmin
//   Q6_K         32 rows of 16 words of the low 4 bits of 8 codes, 16 rows of 16 words of the high
//                2 bits of 16 codes, 16 rows of 16 scales (int8), then 16 of d
// The steps of the kGroupPanels panels of a group alternate; the last group may have fewer panels.
// Of Q8_0, Q4_0 and Q4_1 each row of a step does (of 16 words, scales or offsets), and every group
// is full, so that rows of words are whole cache lines and a group is read from front to back: the
// processor's own prefetching then keeps up with memory.
// packed_matrix.cc writes it. fixed_linear.h reads Q8_0, Q4_0 and Q4_1; of the others, a format
// opens a step, opens each group of kGroup inputs in it, and gives the 16 weights of one input of
// the group.
namespace tandem {

template <typename S, DType kType>
struct PlainFormat {
  static constexpr int kStep = 1, kStepBytes = kType == DType::kF32 ? 64 : 32, kGroup = 1;
  struct Group {
    const uint8_t* row;
    void Open(const uint8_t* step, int) { row = step; }
  };
  void Open(const uint8_t*) {}
  template <int>
  typename S::V Weight(const Group& group) const {
    if constexpr (kType == DType::kF32) {
      return S::Load(reinterpret_cast<const float*>(group.row));
    } else {
      return S::LoadHalves(group.row);
    }
  }
};

template <typename S>
struct BrainFormat {
  static constexpr int kStep = 2, kStepBytes = 64, kGroup = 2;
  struct Group {
    typename S::U words;
    void Open(const uint8_t* step, int) { words = S::LoadWords(step); }
  };
  void Open(const uint8_t*) {}
  template <int kIndex>
  typename S::V Weight(const Group& group) const {
    return S::template Brain<kIndex>(group.words);
  }
};

// The scales and offsets of a step of Q4_K or Q5_K, by sub-block of 32 inputs. A product of a half
// and 6 bits is exact, and so is that with a code: only subtracting the offset rounds.
template <typename S>
struct KScales {
  typename S::V scale[8], minus_min[8];

  void Open(const uint8_t* from) {
    const typename S::U low_scales = S::LoadWords(from), low_mins = S::LoadWords(from + 64);
    const typename S::U rest = S::LoadWords(from + 128);
    const typename S::V d = S::LoadHalves(from + 192), dmin = S::LoadHalves(from + 224);
    OpenPair<0>(low_scales, low_mins, rest, d, S::Sub(S::Zero(), dmin));
    OpenPair<1>(low_scales, low_mins, rest, d, S::Sub(S::Zero(), dmin));
    OpenPair<2>(low_scales, low_mins, rest, d, S::Sub(S::Zero(), dmin));
    OpenPair<3>(low_scales, low_mins, rest, d, S::Sub(S::Zero(), dmin));
  }

 private:
  // Sub-blocks kByte and kByte + 4.
  template <int kByte>
  void OpenPair(typename S::U scales, typename S::U mins, typename S::U rest, typename S::V d,
                typename S::V minus_dmin) {
    constexpr int kBit = 8 * kByte;
    const typename S::V sixteen = S::Set(16);
    scale[kByte] = S::Mul(d, S::template Field<kBit, 6>(scales));
    minus_min[kByte] = S::Mul(minus_dmin, S::template Field<kBit, 6>(mins));
    scale[kByte + 4] = S::Mul(d, S::Fma(sixteen, S::template Field<kBit + 6, 2>(scales),
                                        S::template Field<kBit, 4>(rest)));
    minus_min[kByte + 4] = S::Mul(minus_dmin, S::Fma(sixteen, S::template Field<kBit + 6, 2>(mins),
                                                     S::template Field<kBit + 4, 4>(rest)));
  }
};

template <typename S, bool kHighBit>
struct Q45KFormat {
  static constexpr int kStep = 256, kGroup = 32;
  static constexpr int kHighBytes = kHighBit ? 512 : 0, kStepBytes = 2304 + kHighBytes;
  struct Group {
    const uint8_t* low;
    typename S::U high;  // bit i: of input i
    int index;
    void Open(const uint8_t* step, int group) {
      low = step + 256 * group;
      if constexpr (kHighBit) high = S::LoadWords(step + 2048 + 64 * group);
      index = group;
    }
  };
  KScales<S> scales;
  void Open(const uint8_t* step) { scales.Open(step + 2048 + kHighBytes); }
  template <int kIndex>
  typename S::V Weight(const Group& group) const {
    typename S::V code = S::template Code<kIndex % 8>(S::LoadWords(group.low + kIndex / 8 * 64));
    if constexpr (kHighBit) {
      code = S::Fma(S::Set(16), S::template Field<kIndex, 1>(group.high), code);
    }
    return S::Fma(scales.scale[group.index], code, scales.minus_min[group.index]);
  }
};

// A product of a half, 8 bits and 6 bits is exact.
template <typename S>
struct Q6KFormat {
  static constexpr int kStep = 256, kStepBytes = 3360, kGroup = 16;
  struct Group {
    const uint8_t* low;
    typename S::U high;
    typename S::V scale;
    void Open(const uint8_t* step, int group) {
      low = step + 128 * group;
      high = S::LoadWords(step + 2048 + 64 * group);
      scale = S::Mul(S::LoadHalves(step + 3328), S::LoadBytes(step + 3072 + 16 * group));
    }
  };
  void Open(const uint8_t*) {}
  template <int kIndex>
  typename S::V Weight(const Group& group) const {
    const typename S::V low =
        S::template Code<kIndex % 8>(S::LoadWords(group.low + kIndex / 8 * 64));
    const typename S::V high = S::template Field<2 * kIndex, 2>(group.high);
    const typename S::V code = S::Fma(S::Set(16), S::Sub(high, S::Set(2)), low);
    return S::Mul(group.scale, code);
  }
};

}  // namespace tandem
