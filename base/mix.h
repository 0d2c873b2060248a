#pragma once
#include <cstdint>

namespace tandem {

// Mixes 64 bits (the finalizer of SplitMix64): a bijection that looks random, and no secret.
inline uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace tandem
