#pragma once
#include "worker/backend/cpu/simd_avx512.h"

// AVX-512 with an instruction for sums of products of bytes. See simd_scalar.h.
namespace tandem {

struct Avx512Vnni : Avx512 {
  using W = __m512i;
  static constexpr int kFixedTile(int digits) { return digits == 1 ? 12 : 4; }
  static constexpr int kFixedPanels(int rows, int) { return rows == 1 ? 4 : 2; }

  static W Bytes(U words) { return words; }
  static W LowHalves(U words) { return _mm512_and_si512(words, _mm512_set1_epi8(15)); }
  static W HighHalves(U words) { return LowHalves(_mm512_srli_epi16(words, 4)); }
  static I AddDots(I sum, W bytes, int32_t digits) {
    return _mm512_dpbusd_epi32(sum, bytes, _mm512_set1_epi32(digits));
  }
};

}  // namespace tandem
