#pragma once
#include <immintrin.h>

#include <cstdint>

// The 16 lanes as one register. See simd_scalar.h for what each operation means.
namespace tandem {

struct Avx512 {
  using V = __m512;
  using U = __m512i;  // 16 words of 8 four-bit codes
  using I = __m512i;  // 16 whole numbers
  struct W {          // as Avx2's
    __m512i even, odd;
  };
  static constexpr int kRowTile = 12;
  static constexpr int kPanelsOfRows(int rows) { return rows <= 4 ? 4 : 2; }
  static constexpr int kMixPanels(int rows) { return rows <= 2 ? 8 : kPanelsOfRows(rows); }
  static constexpr int kFixedTile(int digits) { return digits == 1 ? 12 : 4; }
  static constexpr int kFixedPanels(int rows, int) { return rows == 1 ? 4 : 2; }

  static V Zero() { return _mm512_setzero_ps(); }
  static V Set(float x) { return _mm512_set1_ps(x); }
  static V Load(const float* p) { return _mm512_loadu_ps(p); }
  static V LoadFirst(const float* p, int n) { return _mm512_maskz_loadu_ps(First(n), p); }
  static void Store(float* p, V x) { _mm512_storeu_ps(p, x); }
  static void StoreFirst(float* p, V x, int n) { _mm512_mask_storeu_ps(p, First(n), x); }

  static V Add(V a, V b) { return _mm512_add_ps(a, b); }
  static V Sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V Mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V Div(V a, V b) { return _mm512_div_ps(a, b); }
  static V Sqrt(V a) { return _mm512_sqrt_ps(a); }
  static V Fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V Max(V a, V b) { return _mm512_max_ps(a, b); }
  static V Min(V a, V b) { return _mm512_min_ps(a, b); }
  static V ZeroBelow(V x, float limit, V y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, Set(limit), _CMP_GE_OQ), y);
  }
  static V KeepFirst(V x, int n, float rest) { return _mm512_mask_mov_ps(Set(rest), First(n), x); }
  static V DropFirst(V x, int n, float rest) { return _mm512_mask_mov_ps(x, First(n), Set(rest)); }
  static V PowerOfTwo(V magic, float base) {
    const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(magic), _mm512_castps_si512(Set(base)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
  }

  static float Sum(V x) {
    return _mm_cvtss_f32(Fold(x, [](auto a, auto b) { return a + b; }));
  }
  static float MaxOf(V x) {
    return _mm_cvtss_f32(Fold(x, [](auto a, auto b) { return a > b ? a : b; }));
  }

  static V LoadHalves(const uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static V LoadBytes(const uint8_t* p) {
    const __m128i stored = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(stored));
  }
  static U LoadWords(const uint8_t* p) { return _mm512_loadu_si512(p); }
  template <int kIndex>
  static V Brain(U words) {
    if constexpr (kIndex == 0) return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(-65536)));
  }
  // A permute looks at the low four bits of its index only, so it is mask and conversion in one.
  template <int kIndex>
  static V Code(U words) {
    const V table = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(words, 4 * kIndex), table);
  }
  template <int kShift, int kBits>
  static V Field(U words) {
    const __m512i mask = _mm512_set1_epi32((1 << kBits) - 1);
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(words, kShift), mask));
  }

  static W Bytes(U words) {
    return {_mm512_and_si512(words, _mm512_set1_epi16(0xff)), _mm512_srli_epi16(words, 8)};
  }
  static W LowHalves(U words) { return Bytes(_mm512_and_si512(words, _mm512_set1_epi8(15))); }
  static W HighHalves(U words) { return LowHalves(_mm512_srli_epi16(words, 4)); }
  static I SetWhole(int32_t x) { return _mm512_set1_epi32(x); }
  static I AddDots(I sum, W bytes, int32_t digits) {
    const __m512i all = _mm512_set1_epi32(digits);
    const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(all, 8), 8);
    const __m512i odd = _mm512_srai_epi16(all, 8);
    return _mm512_add_epi32(sum, _mm512_add_epi32(_mm512_madd_epi16(bytes.even, even),
                                                  _mm512_madd_epi16(bytes.odd, odd)));
  }
  template <int kShift>
  static I JoinDigits(I high, I middle, I low) {
    const I above = _mm512_add_epi32(_mm512_slli_epi32(high, 16 - kShift),
                                     _mm512_slli_epi32(middle, 8 - kShift));
    return _mm512_add_epi32(above, kShift == 0 ? low : _mm512_srai_epi32(low, kShift));
  }
  static V FromWhole(I x) { return _mm512_cvtepi32_ps(x); }
  static I ToWhole(V x) { return _mm512_cvtps_epi32(x); }
  static int32_t SumOfWhole(I a, I b) { return _mm512_reduce_add_epi32(_mm512_add_epi32(a, b)); }

  template <int kDigits>
  static void StoreDigits(int32_t* to, int stride, I whole) {
    const I bias = _mm512_set1_epi32(kDigits == 1 ? 0x80 : 0x808080);
    const I order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const I words =
        _mm512_shuffle_epi8(_mm512_xor_si512(_mm512_add_epi32(whole, bias), bias), order);
    StoreFour<kDigits>(to, _mm512_castsi512_si128(words));
    StoreFour<kDigits>(to + stride, _mm512_extracti32x4_epi32(words, 1));
    StoreFour<kDigits>(to + 2 * stride, _mm512_extracti32x4_epi32(words, 2));
    StoreFour<kDigits>(to + 3 * stride, _mm512_extracti32x4_epi32(words, 3));
  }

 private:
  template <int kDigits>
  static void StoreFour(int32_t* to, __m128i words) {
    if constexpr (kDigits == 3) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to), words);
      to[2] = _mm_extract_epi32(words, 2);
    } else {
      to[0] = _mm_cvtsi128_si32(words);
    }
  }
  static __mmask16 First(int n) {
    if (n <= 0) return 0;
    return static_cast<__mmask16>(n >= 16 ? 0xffff : (1 << n) - 1);
  }

  // Combines lanes i and i + 8, then i and i + 4, i + 2, i + 1.
  template <typename Combine>
  static __m128 Fold(V x, Combine combine) {
    const __m256 high = _mm512_extractf32x8_ps(x, 1);
    const __m256 eight = combine(_mm512_castps512_ps256(x), high);
    const __m128 four = combine(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = combine(four, _mm_movehl_ps(four, four));
    return combine(two, _mm_shuffle_ps(two, two, 1));
  }
};

}  // namespace tandem
