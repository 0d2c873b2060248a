#pragma once
#include <immintrin.h>

#include <cstdint>

// The 16 lanes as two registers. See simd_scalar.h for what each operation means.
namespace tandem {

struct Avx2 {
  struct V {
    __m256 lo, hi;
  };
  struct U {
    __m256i lo, hi;
  };
  using I = U;  // 16 whole numbers
  // Bytes 0 and 2, and bytes 1 and 3, of each word, as 16-bit numbers: products of bytes in 16 bits
  // would saturate.
  struct W {
    U even, odd;
  };
  static constexpr int kRowTile = 6;
  static constexpr int kPanelsOfRows(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
  static constexpr int kMixPanels(int rows) { return kPanelsOfRows(rows); }
  static constexpr int kFixedTile(int digits) { return digits == 1 ? 4 : 2; }
  static constexpr int kFixedPanels(int, int) { return 1; }

  static V Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static V Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static V Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static V LoadFirst(const float* p, int n) {
    return {_mm256_maskload_ps(p, First(n)), _mm256_maskload_ps(p + 8, First(n - 8))};
  }
  static void Store(float* p, V x) {
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
  }
  static void StoreFirst(float* p, V x, int n) {
    _mm256_maskstore_ps(p, First(n), x.lo);
    _mm256_maskstore_ps(p + 8, First(n - 8), x.hi);
  }

  static V Add(V a, V b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
  static V Sub(V a, V b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
  static V Mul(V a, V b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
  static V Div(V a, V b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
  static V Sqrt(V a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
  static V Fma(V a, V b, V c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  static V Max(V a, V b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
  static V Min(V a, V b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
  static V ZeroBelow(V x, float limit, V y) {
    const __m256 bound = _mm256_set1_ps(limit);
    return {_mm256_and_ps(_mm256_cmp_ps(x.lo, bound, _CMP_GE_OQ), y.lo),
            _mm256_and_ps(_mm256_cmp_ps(x.hi, bound, _CMP_GE_OQ), y.hi)};
  }
  static V KeepFirst(V x, int n, float rest) {
    const __m256 other = _mm256_set1_ps(rest);
    return {_mm256_blendv_ps(other, x.lo, _mm256_castsi256_ps(First(n))),
            _mm256_blendv_ps(other, x.hi, _mm256_castsi256_ps(First(n - 8)))};
  }
  static V DropFirst(V x, int n, float rest) {
    const __m256 other = _mm256_set1_ps(rest);
    return {_mm256_blendv_ps(x.lo, other, _mm256_castsi256_ps(First(n))),
            _mm256_blendv_ps(x.hi, other, _mm256_castsi256_ps(First(n - 8)))};
  }
  static V PowerOfTwo(V magic, float base) {
    return {PowerOfTwo(magic.lo, base), PowerOfTwo(magic.hi, base)};
  }

  static float Sum(V x) {
    return _mm_cvtss_f32(Fold(x, [](auto a, auto b) { return a + b; }));
  }
  static float MaxOf(V x) {
    return _mm_cvtss_f32(Fold(x, [](auto a, auto b) { return a > b ? a : b; }));
  }

  static V LoadHalves(const uint8_t* p) {
    return {_mm256_cvtph_ps(Load128(p)), _mm256_cvtph_ps(Load128(p + 16))};
  }
  static V LoadBytes(const uint8_t* p) {
    const __m128i stored = Load128(p);
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(stored)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(stored, 8)))};
  }
  static U LoadWords(const uint8_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
  }
  template <int kIndex>
  static V Brain(U words) {
    return {Brain<kIndex>(words.lo), Brain<kIndex>(words.hi)};
  }
  template <int kIndex>
  static V Code(U words) {
    return {_mm256_cvtepi32_ps(Nibble<kIndex>(words.lo)),
            _mm256_cvtepi32_ps(Nibble<kIndex>(words.hi))};
  }
  template <int kShift, int kBits>
  static V Field(U words) {
    const __m256i mask = _mm256_set1_epi32((1 << kBits) - 1);
    return {_mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(words.lo, kShift), mask)),
            _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(words.hi, kShift), mask))};
  }

  static W Bytes(U words) {
    const __m256i mask = _mm256_set1_epi16(0xff);
    return {{_mm256_and_si256(words.lo, mask), _mm256_and_si256(words.hi, mask)},
            {_mm256_srli_epi16(words.lo, 8), _mm256_srli_epi16(words.hi, 8)}};
  }
  static W LowHalves(U words) {
    const __m256i mask = _mm256_set1_epi8(15);
    return Bytes({_mm256_and_si256(words.lo, mask), _mm256_and_si256(words.hi, mask)});
  }
  static W HighHalves(U words) {
    return LowHalves({_mm256_srli_epi16(words.lo, 4), _mm256_srli_epi16(words.hi, 4)});
  }
  static I SetWhole(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  static I AddDots(I sum, W bytes, int32_t digits) {
    const __m256i all = _mm256_set1_epi32(digits);
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8);
    const __m256i odd = _mm256_srai_epi16(all, 8);
    return {AddDots(sum.lo, bytes.even.lo, even, bytes.odd.lo, odd),
            AddDots(sum.hi, bytes.even.hi, even, bytes.odd.hi, odd)};
  }
  template <int kShift>
  static I JoinDigits(I high, I middle, I low) {
    return {Join<kShift>(high.lo, middle.lo, low.lo), Join<kShift>(high.hi, middle.hi, low.hi)};
  }
  static V FromWhole(I x) { return {_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)}; }
  static I ToWhole(V x) { return {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)}; }
  static int32_t SumOfWhole(I a, I b) {
    const __m256i eight =
        _mm256_add_epi32(_mm256_add_epi32(a.lo, a.hi), _mm256_add_epi32(b.lo, b.hi));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_srli_si128(four, 8));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_srli_si128(four, 4)));
  }

  template <int kDigits>
  static void StoreDigits(int32_t* to, int stride, I whole) {
    StoreFour<kDigits>(to, _mm256_castsi256_si128(whole.lo));
    StoreFour<kDigits>(to + stride, _mm256_extracti128_si256(whole.lo, 1));
    StoreFour<kDigits>(to + 2 * stride, _mm256_castsi256_si128(whole.hi));
    StoreFour<kDigits>(to + 3 * stride, _mm256_extracti128_si256(whole.hi, 1));
  }

 private:
  template <int kDigits>
  static void StoreFour(int32_t* to, __m128i whole) {
    const __m128i bias = _mm_set1_epi32(kDigits == 1 ? 0x80 : 0x808080);
    const __m128i digits = _mm_xor_si128(_mm_add_epi32(whole, bias), bias);
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m128i words = _mm_shuffle_epi8(digits, order);
    if constexpr (kDigits == 3) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to), words);
      to[2] = _mm_extract_epi32(words, 2);
    } else {
      to[0] = _mm_cvtsi128_si32(words);
    }
  }
  static __m256i AddDots(__m256i sum, __m256i a, __m256i x, __m256i b, __m256i y) {
    return _mm256_add_epi32(sum,
                            _mm256_add_epi32(_mm256_madd_epi16(a, x), _mm256_madd_epi16(b, y)));
  }
  template <int kShift>
  static __m256i Join(__m256i high, __m256i middle, __m256i low) {
    const __m256i above = _mm256_add_epi32(_mm256_slli_epi32(high, 16 - kShift),
                                           _mm256_slli_epi32(middle, 8 - kShift));
    return _mm256_add_epi32(above, _mm256_srai_epi32(low, kShift));
  }
  static __m256i First(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m128i Load128(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  template <int kIndex>
  static __m256 Brain(__m256i words) {
    if constexpr (kIndex == 0) return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
    return _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(-65536)));
  }
  template <int kIndex>
  static __m256i Nibble(__m256i words) {
    return _mm256_and_si256(_mm256_srli_epi32(words, 4 * kIndex), _mm256_set1_epi32(15));
  }
  static __m256 PowerOfTwo(__m256 magic, float base) {
    const __m256i n =
        _mm256_sub_epi32(_mm256_castps_si256(magic), _mm256_castps_si256(_mm256_set1_ps(base)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  template <typename Combine>
  static __m128 Fold(V x, Combine combine) {
    const __m256 eight = combine(x.lo, x.hi);
    const __m128 four = combine(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = combine(four, _mm_movehl_ps(four, four));
    return combine(two, _mm_shuffle_ps(two, two, 1));
  }
};

}  // namespace tandem
