#pragma once
#include <cstdint>

#include "worker/backend/cpu/kernels.h"

// How the weights of one panel lie in memory and become float32 lanes. A panel holds 16 outputs;
// per step of kStep inputs it has kStepBytes bytes:
//   plain types  16 elements, of one input
//   Q8_0         32 rows of 16 codes, then 16 scales d
//   Q4_0, Q4_1   4 rows of 16 words, each of the codes of 8 neighbouring inputs (the first in the
//                lowest bits), then 16 scales d, then (Q4_1) 16 offsets m
// The steps of the kGroupPanels panels of a group alternate; the last group may have fewer panels.
// packed_matrix.cc writes it. A format opens a step, opens each group of kGroup inputs in it, and
// gives the 16 weights of one input of the group.
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
    } else if constexpr (kType == DType::kF16) {
      return S::LoadHalves(group.row);
    } else {
      return S::LoadBrains(group.row);
    }
  }
};

template <typename S>
struct Q8Format {
  static constexpr int kStep = 32, kStepBytes = 544, kGroup = 4;
  struct Group {
    const uint8_t* rows;
    void Open(const uint8_t* step, int index) { rows = step + 64 * index; }
  };
  typename S::V d;
  void Open(const uint8_t* step) { d = S::LoadHalves(step + 512); }
  template <int kIndex>
  typename S::V Weight(const Group& group) const {
    return S::Mul(d, S::LoadBytes(group.rows + 16 * kIndex));
  }
};

template <typename S>
struct WordGroup {
  typename S::U words;
  void Open(const uint8_t* step, int index) { words = S::LoadWords(step + 64 * index); }
};

template <typename S>
struct Q4Format {
  static constexpr int kStep = 32, kStepBytes = 288, kGroup = 8;
  using Group = WordGroup<S>;
  typename S::V d;
  void Open(const uint8_t* step) { d = S::LoadHalves(step + 256); }
  template <int kIndex>
  typename S::V Weight(const Group& group) const {
    return S::Mul(d, S::template CenteredCode<kIndex>(group.words));
  }
};

template <typename S>
struct Q41Format {
  static constexpr int kStep = 32, kStepBytes = 320, kGroup = 8;
  using Group = WordGroup<S>;
  typename S::V d, m;
  void Open(const uint8_t* step) {
    d = S::LoadHalves(step + 256);
    m = S::LoadHalves(step + 288);
  }
  template <int kIndex>
  typename S::V Weight(const Group& group) const {
    return S::Fma(d, S::template Code<kIndex>(group.words), m);
  }
};

}  // namespace tandem
