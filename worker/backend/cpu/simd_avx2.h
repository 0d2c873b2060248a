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
  static constexpr int kRowTile = 6;
  static constexpr int kPanelsOfRows(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

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
  static V LoadBrains(const uint8_t* p) { return {Brains(Load128(p)), Brains(Load128(p + 16))}; }
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
  static V Code(U words) {
    return {_mm256_cvtepi32_ps(Nibble<kIndex>(words.lo)),
            _mm256_cvtepi32_ps(Nibble<kIndex>(words.hi))};
  }
  template <int kIndex>
  static V CenteredCode(U words) {
    const __m256i eight = _mm256_set1_epi32(8);
    return {_mm256_cvtepi32_ps(_mm256_sub_epi32(Nibble<kIndex>(words.lo), eight)),
            _mm256_cvtepi32_ps(_mm256_sub_epi32(Nibble<kIndex>(words.hi), eight))};
  }
  template <int kShift, int kBits>
  static V Field(U words) {
    const __m256i mask = _mm256_set1_epi32((1 << kBits) - 1);
    return {_mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(words.lo, kShift), mask)),
            _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(words.hi, kShift), mask))};
  }

 private:
  static __m256i First(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m128i Load128(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static __m256 Brains(__m128i stored) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(stored), 16));
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
