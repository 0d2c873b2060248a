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
        q_(args.scratch),
        mix_(q_ + M * padded_dim_),
        scores_(mix_ + M * padded_dim_) {}

  __attribute__((noinline)) void Run() {
    PackQueries();
    Score();
    Softmax();
    const int64_t shared_blocks = (args_.position + 1) / kLanes;  // which all rows see wholly
    Mix(shared_blocks);
    for (int m = 0; m < pairs(); ++m) MixRest(m, shared_blocks);
    Write();
  }

 private:
  using V = typename S::V;
  static constexpr int kWide = S::kPanelsOfRows(M);
  static constexpr bool kPrefetch = M <= 4;  // few pairs: bound by memory
  static constexpr float kNone = -__builtin_inff();

  int pairs() const { return args_.rows * args_.heads; }
  int64_t TokensOf(int pair) const { return args_.position + pair / args_.heads + 1; }
  // The first token that a row at `position` sees.
  int64_t FirstToken(int64_t position) const {
    const int64_t before = position + 1 - args_.window;
    return args_.window == 0 || before < 0 ? 0 : before;
  }
  float* ScoresOf(int64_t block) const { return scores_ + block * M * kLanes; }
  // The block `count` after this one, or the last.
  const float* BlockAfter(int64_t block, int64_t count) const {
    return args_.blocks[block + count < blocks_ ? block + count : blocks_ - 1];
  }
  int VectorLanes(int dim) const {
    return args_.head_dim - dim < kLanes ? args_.head_dim - dim : kLanes;
  }

  // [head_dim][M], scaled. Pairs that are not there repeat the first.
  void PackQueries() {
    for (int m = 0; m < M; ++m) {
      const int pair = m < pairs() ? m : 0;
      const float* const q =
          args_.q + pair / args_.heads * args_.q_stride + pair % args_.heads * args_.head_dim;
      for (int d = 0; d < args_.head_dim; ++d) q_[d * M + m] = q[d] * args_.scale;
    }
  }

  void Score() {
    for (int m = 0; m < M; ++m) max_[m] = S::Set(kNone);
    int64_t block = first_block_;
    for (; block + kWide <= blocks_; block += kWide) ScoreBlocks<kWide>(block);
    for (; block < blocks_; ++block) ScoreBlocks<1>(block);
  }

  template <int R>
  void ScoreBlocks(int64_t block) {
    const float *keys[R], *next[R];
    for (int r = 0; r < R; ++r) {
      keys[r] = args_.blocks[block + r] + args_.key_offset;
      next[r] = BlockAfter(block + r, R) + args_.key_offset;
    }
    Sums<S, M, R> sums;
    sums.Clear();
    for (int d = 0; d < args_.head_dim; ++d) {
      V key[R];
      for (int r = 0; r < R; ++r) {
        key[r] = S::Load(keys[r] + d * kLanes);
        if constexpr (kPrefetch) __builtin_prefetch(next[r] + d * kLanes, 0, 2);
      }
      sums.Add(key, q_ + d * M, 1);
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
        S::Store(ScoresOf(block + r) + m * kLanes, score);
        max_[m] = S::Max(max_[m], score);
      }
    }
  }

  void Softmax() {
    for (int m = 0; m < pairs(); ++m) {
      const V max = S::Set(S::MaxOf(max_[m]));
      V sum = S::Zero();
      for (int64_t block = first_block_; block < blocks_; ++block) {
        float* const scores = ScoresOf(block) + m * kLanes;
        const V weight = Exp<S>(S::Sub(S::Load(scores), max));
        S::Store(scores, weight);
        sum = S::Add(sum, weight);
      }
      total_[m] = S::Sum(sum);
    }
  }

  void Mix(int64_t blocks) {
    const int whole = args_.head_dim / kLanes * kLanes;
    int dim = 0;
    for (; dim + kWide * kLanes <= whole; dim += kWide * kLanes) MixBlocks<kWide>(dim, blocks);
    for (; dim < args_.head_dim; dim += kLanes) MixBlocks<1>(dim, blocks);
  }

  template <int R>
  void MixBlocks(int dim, int64_t blocks) {
    Sums<S, M, R> sums;
    sums.Clear();
    for (int64_t block = first_block_; block < blocks; ++block) {
      AddTokens<M, R>(block, kLanes, dim, ScoresOf(block), sums);
    }
    sums.Store(mix_ + dim, padded_dim_);
  }

  // Adds the first `tokens` values of a block, weighted by the scores of M pairs.
  template <int kPairs, int R>
  inline __attribute__((always_inline)) void AddTokens(int64_t block, int tokens, int dim,
                                                       const float* scores,
                                                       Sums<S, kPairs, R>& sums) {
    const float* value = args_.blocks[block] + args_.value_offset + dim;
    const float* next = BlockAfter(block, 1) + args_.value_offset + dim;
    for (int t = 0; t < tokens; ++t, value += args_.head_dim, next += args_.head_dim) {
      V values[R];
      if constexpr (R == 1) {
        values[0] = S::LoadFirst(value, VectorLanes(dim));
      } else {
        for (int r = 0; r < R; ++r) {
          values[r] = S::Load(value + r * kLanes);
          if constexpr (kPrefetch) __builtin_prefetch(next + r * kLanes, 0, 2);
        }
      }
      sums.Add(values, scores + t, kLanes);
    }
  }

  // The tokens of one pair after the blocks that all rows see.
  void MixRest(int m, int64_t first_block) {
    const int whole = args_.head_dim / kLanes * kLanes;
    int dim = 0;
    for (; dim + 4 * kLanes <= whole; dim += 4 * kLanes) MixRestOf<4>(m, first_block, dim);
    for (; dim < args_.head_dim; dim += kLanes) MixRestOf<1>(m, first_block, dim);
  }

  template <int R>
  void MixRestOf(int m, int64_t block, int dim) {
    Sums<S, 1, R> sums;
    float* const mix = mix_ + m * padded_dim_ + dim;
    sums.Load(mix, 0);
    for (int64_t left = TokensOf(m) - block * kLanes; left > 0; left -= kLanes, ++block) {
      const int tokens = left < kLanes ? static_cast<int>(left) : kLanes;
      AddTokens<1, R>(block, tokens, dim, ScoresOf(block) + m * kLanes, sums);
    }
    sums.Store(mix, 0);
  }

  void Write() {
    for (int m = 0; m < pairs(); ++m) {
      const V inverse = S::Set(1.0f / total_[m]);
      float* const out =
          args_.out + m / args_.heads * args_.out_stride + m % args_.heads * args_.head_dim;
      for (int dim = 0; dim < args_.head_dim; dim += kLanes) {
        const V mix = S::Load(mix_ + m * padded_dim_ + dim);
        S::StoreFirst(out + dim, S::Mul(mix, inverse), VectorLanes(dim));
      }
    }
  }

  const AttentionArgs& args_;
  const int64_t first_block_;  // of those that the first row sees
  const int64_t blocks_;
  const int padded_dim_;
  float* const q_;       // [head_dim][M]
  float* const mix_;     // [M][padded_dim]
  float* const scores_;  // [blocks][M][16 tokens]
  V max_[M];
  float total_[M];
};

template <typename S>
void RunAttention(const AttentionArgs& args) {
  WithTileRows<S>(args.rows * args.heads,
                  [&](auto padded) { AttentionTile<S, decltype(padded)::value>(args).Run(); });
}

}  // namespace tandem
