#pragma once
#include <cstdint>

#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/multiply.h"
#include "worker/backend/cpu/row_kernels.h"

// Attention of a tile of (row, head) pairs that share their keys and values. Each pair's arithmetic
// is the same in every tile: scores are one chain over the head's dimensions, the sum of
// exponentials runs by lane over the blocks in order, and the mix is one chain over the tokens.
// Tokens before a pair's window have a weight of exactly 0 at the head of these sums, which leaves
// them at +0: it is the same whether a tile begins with the pair's first block or before it.
namespace tandem {

template <typename S, int M>
class AttentionTile {
 public:
  explicit AttentionTile(const AttentionArgs& args)
      : args_(args),
        first_block_(FirstToken(args.position) / kLanes),
        blocks_((args.position + args.rows + kLanes - 1) / kLanes),
        padded_dim_((args.head_dim + kLanes - 1) / kLanes * kLanes),
        head_floats_(int64_t{kLanes} * args.head_dim),
        q_(args.scratch),
        mix_(q_ + args.kv_heads * M * padded_dim_),
        scores_(mix_ + args.kv_heads * M * padded_dim_) {}

  __attribute__((noinline)) void Run() {
    for (int g = 0; g < args_.kv_heads; ++g) PackQueries(g);
    Score();
    for (int g = 0; g < args_.kv_heads; ++g) Softmax(g);
    const int64_t shared_blocks = (args_.position + 1) / kLanes;  // which all rows see wholly
    if constexpr (kStream) {
      MixInOrder(shared_blocks);
    } else {
      for (int g = 0; g < args_.kv_heads; ++g) Mix(g, shared_blocks);
    }
    for (int g = 0; g < args_.kv_heads; ++g) {
      for (int m = 0; m < pairs(); ++m) MixRest(g, m, shared_blocks);
      Write(g);
    }
  }

 private:
  using V = typename S::V;
  static constexpr int kWide = S::kPanelsOfRows(M);
  static constexpr bool kStream = M <= 4;  // few pairs: bound by memory
  static constexpr int kMixWide = S::kMixPanels(M);
  // How many vectors ahead of their use keys and values are asked for. Those of a block are a few
  // pages: too short for the processor to find out by itself in time.
  static constexpr int kAhead = 32;
  static constexpr float kNone = -__builtin_inff();

  int pairs() const { return args_.rows * args_.heads; }
  int64_t TokensOf(int pair) const { return args_.position + pair / args_.heads + 1; }
  // The first token that a row at `position` sees.
  int64_t FirstToken(int64_t position) const {
    const int64_t before = position + 1 - args_.window;
    return args_.window == 0 || before < 0 ? 0 : before;
  }
  const float* KeysOf(int64_t block, int g) const {
    return args_.blocks[block] + args_.key_offset + g * head_floats_;
  }
  const float* ValuesOf(int64_t block, int g) const {
    return args_.blocks[block] + args_.value_offset + g * head_floats_;
  }
  float* QueriesOf(int g) const { return q_ + int64_t{g} * M * padded_dim_; }
  float* MixOf(int g) const { return mix_ + int64_t{g} * M * padded_dim_; }
  float* ScoresOf(int64_t block, int g) const {
    return scores_ + (g * blocks_ + block) * M * kLanes;
  }
  int VectorLanes(int dim) const {
    return args_.head_dim - dim < kLanes ? args_.head_dim - dim : kLanes;
  }
  int64_t OffsetOf(int g, int pair, int64_t stride) const {
    return pair / args_.heads * stride +
           (g * args_.heads + pair % args_.heads) * int64_t{args_.head_dim};
  }

  // [head_dim][M], scaled. Pairs that are not there repeat the first.
  void PackQueries(int g) {
    float* const packed = QueriesOf(g);
    for (int m = 0; m < M; ++m) {
      const float* const q = args_.q + OffsetOf(g, m < pairs() ? m : 0, args_.q_stride);
      for (int d = 0; d < args_.head_dim; ++d) packed[d * M + m] = q[d] * args_.scale;
    }
  }

  void Score() {
    for (int g = 0; g < args_.kv_heads; ++g) {
      for (int m = 0; m < M; ++m) max_[g][m] = S::Set(kNone);
    }
    int64_t block = first_block_;
    for (; block + kWide <= blocks_; block += kWide) {
      for (int g = 0; g < args_.kv_heads; ++g) ScoreBlocks<kWide>(block, g);
    }
    for (; block < blocks_; ++block) {
      for (int g = 0; g < args_.kv_heads; ++g) ScoreBlocks<1>(block, g);
    }
  }

  template <int R>
  void ScoreBlocks(int64_t block, int g) {
    const float* keys[R];
    for (int r = 0; r < R; ++r) keys[r] = KeysOf(block + r, g);
    const float* const q = QueriesOf(g);
    Sums<S, M, R> sums;
    sums.Clear();
    for (int d = 0; d < args_.head_dim; ++d) {
      V key[R];
      for (int r = 0; r < R; ++r) {
        key[r] = S::Load(keys[r] + d * kLanes);
        if constexpr (kStream) __builtin_prefetch(keys[r] + (d + kAhead) * kLanes, 0, 2);
      }
      sums.Add(key, q + d * M, 1);
    }
    for (int r = 0; r < R; ++r) {
      for (int m = 0; m < M; ++m) {
        const int64_t seen = TokensOf(m) - (block + r) * kLanes;
        V score = sums.sum[m][r];
        if (seen < kLanes) score = S::KeepFirst(score, static_cast<int>(seen), kNone);
        if (args_.window > 0) {
          const int64_t before = FirstToken(TokensOf(m) - 1) - (block + r) * kLanes;
          if (before > 0) score = S::DropFirst(score, static_cast<int>(before), kNone);
        }
        S::Store(ScoresOf(block + r, g) + m * kLanes, score);
        max_[g][m] = S::Max(max_[g][m], score);
      }
    }
  }

  void Softmax(int g) {
    for (int m = 0; m < pairs(); ++m) {
      const V max = S::Set(S::MaxOf(max_[g][m]));
      V sum = S::Zero();
      for (int64_t block = first_block_; block < blocks_; ++block) {
        float* const scores = ScoresOf(block, g) + m * kLanes;
        const V weight = Exp<S>(S::Sub(S::Load(scores), max));
        S::Store(scores, weight);
        sum = S::Add(sum, weight);
      }
      total_[g][m] = S::Sum(sum);
    }
  }

  // Block by block, as they lie in memory; sums wait in the nearest cache.
  void MixInOrder(int64_t blocks) {
    Sums<S, 1, 1> zero;
    zero.Clear();
    for (int i = 0; i < args_.kv_heads * M * padded_dim_; i += kLanes) zero.Store(mix_ + i, 0);
    for (int64_t block = first_block_; block < blocks; ++block) {
      for (int g = 0; g < args_.kv_heads; ++g) {
        ForDims<kMixWide>([&](auto width, int dim) {
          constexpr int kWidth = decltype(width)::value;
          Sums<S, M, kWidth> sums;
          sums.Load(MixOf(g) + dim, padded_dim_);
          AddTokens<M, kWidth>(block, g, kLanes, dim, ScoresOf(block, g), sums);
          sums.Store(MixOf(g) + dim, padded_dim_);
        });
      }
    }
  }

  void Mix(int g, int64_t blocks) {
    ForDims<kMixWide>([&](auto width, int dim) {
      constexpr int kWidth = decltype(width)::value;
      Sums<S, M, kWidth> sums;
      sums.Clear();
      for (int64_t block = first_block_; block < blocks; ++block) {
        AddTokens<M, kWidth>(block, g, kLanes, dim, ScoresOf(block, g), sums);
      }
      sums.Store(MixOf(g) + dim, padded_dim_);
    });
  }

  // Calls f(Int<n>, dim) for the dimensions of a head, n vectors at a time while they are full.
  template <int kMost, typename F>
  inline __attribute__((always_inline)) void ForDims(F f) {
    const int whole = args_.head_dim / kLanes * kLanes;
    int dim = 0;
    for (; dim + kMost * kLanes <= whole; dim += kMost * kLanes) f(Int<kMost>{}, dim);
    for (; dim < args_.head_dim; dim += kLanes) f(Int<1>{}, dim);
  }

  // Adds the first `tokens` values of a block, weighted by the scores of M pairs.
  template <int kPairs, int R>
  inline __attribute__((always_inline)) void AddTokens(int64_t block, int g, int tokens, int dim,
                                                       const float* scores,
                                                       Sums<S, kPairs, R>& sums) {
    const float* value = ValuesOf(block, g) + dim;
    for (int t = 0; t < tokens; ++t, value += args_.head_dim) {
      V values[R];
      if constexpr (R == 1) {
        values[0] = S::LoadFirst(value, VectorLanes(dim));
      } else {
        for (int r = 0; r < R; ++r) {
          values[r] = S::Load(value + r * kLanes);
          if constexpr (kStream) __builtin_prefetch(value + (r + kAhead) * kLanes, 0, 2);
        }
      }
      sums.Add(values, scores + t, kLanes);
    }
  }

  // The tokens of one pair after the blocks that all rows see.
  void MixRest(int g, int m, int64_t first_block) {
    ForDims<4>([&](auto width, int dim) {
      constexpr int kWidth = decltype(width)::value;
      Sums<S, 1, kWidth> sums;
      float* const mix = MixOf(g) + m * padded_dim_ + dim;
      sums.Load(mix, 0);
      int64_t block = first_block;
      for (int64_t left = TokensOf(m) - block * kLanes; left > 0; left -= kLanes, ++block) {
        const int tokens = left < kLanes ? static_cast<int>(left) : kLanes;
        AddTokens<1, kWidth>(block, g, tokens, dim, ScoresOf(block, g) + m * kLanes, sums);
      }
      sums.Store(mix, 0);
    });
  }

  void Write(int g) {
    for (int m = 0; m < pairs(); ++m) {
      const V inverse = S::Set(1.0f / total_[g][m]);
      float* const out = args_.out + OffsetOf(g, m, args_.out_stride);
      for (int dim = 0; dim < args_.head_dim; dim += kLanes) {
        const V mix = S::Load(MixOf(g) + m * padded_dim_ + dim);
        S::StoreFirst(out + dim, S::Mul(mix, inverse), VectorLanes(dim));
      }
    }
  }

  const AttentionArgs& args_;
  const int64_t first_block_;  // of those that the first row sees
  const int64_t blocks_;
  const int padded_dim_;
  const int64_t head_floats_;  // of the keys, or values, of one kv head in a block
  float* const q_;             // [kv_heads][head_dim][M]
  float* const mix_;           // [kv_heads][M][padded_dim]
  float* const scores_;        // [kv_heads][blocks][M][16 tokens]
  V max_[kAttentionKvHeads][M];
  float total_[kAttentionKvHeads][M];
};

template <typename S>
void RunAttention(const AttentionArgs& args) {
  WithTileRows<S>(args.rows * args.heads,
                  [&](auto padded) { AttentionTile<S, decltype(padded)::value>(args).Run(); });
}

}  // namespace tandem
