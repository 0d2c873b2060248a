#pragma once
#include <cstdint>

// The 16 lanes as an array, for any CPU; also the definition of what the other sets do.
namespace tandem {

struct Scalar {
  struct V {
    float lane[16];
  };
  struct U {
    uint32_t lane[16];
  };
  using W = U;  // 16 words of four unsigned bytes, ready for AddDots
  struct I {
    int32_t lane[16];
  };
  static constexpr int kRowTile = 4;                     // rows of x that are multiplied at a time
  static constexpr int kPanelsOfRows(int) { return 1; }  // with so many panels
  static constexpr int kMixPanels(int) { return 1; }     // or so many vectors of a value
  // The same for inputs of 1 or 3 digits (fixed_linear.h).
  static constexpr int kFixedTile(int) { return 4; }
  static constexpr int kFixedPanels(int, int) { return 1; }

  static V Zero() { return Set(0); }
  static V Set(float x) {
    return Each([x](int) { return x; });
  }
  static V Load(const float* p) {
    return Each([p](int i) { return p[i]; });
  }
  // The first n lanes from memory, zeros in the others. n in [0, 16], as below.
  static V LoadFirst(const float* p, int n) {
    return Each([p, n](int i) { return i < n ? p[i] : 0.f; });
  }
  static void Store(float* p, const V& x) { StoreFirst(p, x, 16); }
  static void StoreFirst(float* p, const V& x, int n) {
    for (int i = 0; i < n; ++i) p[i] = x.lane[i];
  }

  static V Add(const V& a, const V& b) {
    return Each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static V Sub(const V& a, const V& b) {
    return Each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static V Mul(const V& a, const V& b) {
    return Each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static V Div(const V& a, const V& b) {
    return Each([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static V Sqrt(const V& a) {
    return Each([&](int i) { return __builtin_sqrtf(a.lane[i]); });
  }
  // a * b + c, rounded once.
  static V Fma(const V& a, const V& b, const V& c) {
    return Each([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
  }
  // b where they are not comparable.
  static V Max(const V& a, const V& b) {
    return Each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static V Min(const V& a, const V& b) {
    return Each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  // y, and zero where x is not at least `limit`.
  static V ZeroBelow(const V& x, float limit, const V& y) {
    return Each([&](int i) { return x.lane[i] >= limit ? y.lane[i] : 0.f; });
  }
  // The first n lanes of x, and `rest` in the others; n may be below 0 or above 16.
  static V KeepFirst(const V& x, int n, float rest) {
    return Each([&](int i) { return i < n ? x.lane[i] : rest; });
  }
  // The reverse: `rest` in the first n lanes.
  static V DropFirst(const V& x, int n, float rest) {
    return Each([&](int i) { return i < n ? rest : x.lane[i]; });
  }
  // 2^n, where `magic` is base + n with the ulp of base being 1; n in [-126, 127].
  static V PowerOfTwo(const V& magic, float base) {
    return Each([&](int i) { return Float((Bits(magic.lane[i]) - Bits(base) + 127) << 23); });
  }

  // Lanes i and i + 8 are combined first, then i and i + 4, i + 2, i + 1.
  static float Sum(const V& x) {
    return Fold(x, [](float a, float b) { return a + b; });
  }
  static float MaxOf(const V& x) {
    return Fold(x, [](float a, float b) { return a > b ? a : b; });
  }

  // 16 stored values as float32: IEEE halves, int8.
  static V LoadHalves(const uint8_t* p) {
    return Each([p](int i) { return Half(Load16(p + 2 * i)); });
  }
  static V LoadBytes(const uint8_t* p) {
    return Each([p](int i) { return static_cast<float>(static_cast<int8_t>(p[i])); });
  }
  static U LoadWords(const uint8_t* p) {
    U words;
    __builtin_memcpy(words.lane, p, sizeof(words.lane));
    return words;
  }
  // The low (0) or high (1) half of each word, a bfloat16.
  template <int kIndex>
  static V Brain(const U& words) {
    return Each([&](int i) {
      return Float(kIndex == 0 ? words.lane[i] << 16 : words.lane[i] & 0xffff0000u);
    });
  }
  // The four-bit code kIndex of each word.
  template <int kIndex>
  static V Code(const U& words) {
    return Each([&](int i) { return static_cast<float>((words.lane[i] >> 4 * kIndex) & 15); });
  }
  // The kBits bits from bit kShift of each word on.
  template <int kShift, int kBits>
  static V Field(const U& words) {
    return Each(
        [&](int i) { return static_cast<float>((words.lane[i] >> kShift) & ((1u << kBits) - 1)); });
  }

  static W Bytes(const U& words) { return words; }
  // The low, or the high, four bits of each byte.
  static W LowHalves(const U& words) { return HalvesFrom(words, 0); }
  static W HighHalves(const U& words) { return HalvesFrom(words, 4); }
  static I SetWhole(int32_t x) {
    return EachWhole([x](int) { return x; });
  }
  // Adds to each lane the products of its word's bytes with the four signed bytes of `digits`.
  static I AddDots(const I& sum, const W& bytes, int32_t digits) {
    I out = sum;
    for (int i = 0; i < 16; ++i) {
      for (int b = 0; b < 32; b += 8) {
        out.lane[i] += static_cast<int32_t>((bytes.lane[i] >> b) & 255) *
                       static_cast<int8_t>(static_cast<uint32_t>(digits) >> b);
      }
    }
    return out;
  }
  // (high * 2^16 + middle * 2^8 + low) / 2^kShift, rounded down; what comes between may wrap.
  template <int kShift>
  static I JoinDigits(const I& high, const I& middle, const I& low) {
    return EachWhole([&](int i) {
      return static_cast<int32_t>((static_cast<uint32_t>(high.lane[i]) << (16 - kShift)) +
                                  (static_cast<uint32_t>(middle.lane[i]) << (8 - kShift)) +
                                  static_cast<uint32_t>(low.lane[i] >> kShift));
    });
  }
  static V FromWhole(const I& x) {
    return Each([&](int i) { return static_cast<float>(x.lane[i]); });
  }
  // The nearest whole numbers, ties to even, of numbers up to 2^22.
  static I ToWhole(const V& x) {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    return EachWhole(
        [&](int i) { return static_cast<int32_t>(Bits(x.lane[i] + kRound) - Bits(kRound)); });
  }
  static int32_t SumOfWhole(const I& a, const I& b) {
    uint32_t sum = 0;
    for (int i = 0; i < 16; ++i) {
      sum += static_cast<uint32_t>(a.lane[i]) + static_cast<uint32_t>(b.lane[i]);
    }
    return static_cast<int32_t>(sum);
  }
  // For each four lanes, `stride` words apart: a word of their lowest digits, one of their second
  // ones, and so on. Digits are in [-128, 127]: with 0x80 added to each they do not borrow, and
  // flipping that bit takes it off.
  template <int kDigits>
  static void StoreDigits(int32_t* to, int stride, const I& whole) {
    constexpr uint32_t kBias = kDigits == 1 ? 0x80 : 0x808080;
    for (int four = 0; four < 4; ++four) {
      for (int d = 0; d < kDigits; ++d) {
        uint32_t word = 0;
        for (int i = 0; i < 4; ++i) {
          const uint32_t lane = static_cast<uint32_t>(whole.lane[4 * four + i]);
          word |= (((lane + kBias) ^ kBias) >> 8 * d & 255) << 8 * i;
        }
        to[four * stride + d] = static_cast<int32_t>(word);
      }
    }
  }

 private:
  template <typename F>
  static I EachWhole(F f) {
    I out;
    for (int i = 0; i < 16; ++i) out.lane[i] = f(i);
    return out;
  }
  static U HalvesFrom(const U& words, int shift) {
    U out;
    for (int i = 0; i < 16; ++i) out.lane[i] = (words.lane[i] >> shift) & 0x0f0f0f0fu;
    return out;
  }
  template <typename F>
  static V Each(F f) {
    V out;
    for (int i = 0; i < 16; ++i) out.lane[i] = f(i);
    return out;
  }
  template <typename Combine>
  static float Fold(V x, Combine combine) {
    for (int step = 8; step > 0; step /= 2) {
      for (int i = 0; i < step; ++i) x.lane[i] = combine(x.lane[i], x.lane[i + step]);
    }
    return x.lane[0];
  }
  static uint32_t Bits(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof(bits));
    return bits;
  }
  static float Float(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof(x));
    return x;
  }
  static uint16_t Load16(const uint8_t* p) {
    uint16_t x;
    __builtin_memcpy(&x, p, sizeof(x));
    return x;
  }
  static float Half(uint16_t half) {
    const uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31;
    const uint32_t fraction = half & 1023;
    if (exponent == 0) return Float(sign | Bits(static_cast<float>(fraction) * 0x1p-24f));
    return Float(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
  }
};

}  // namespace tandem
