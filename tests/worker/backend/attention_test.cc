// Rotary embedding, the KV cache and attention.
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/backend/backends.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

// A sequence's q, k and v rows, and what attention made of them.
struct Sequence {
  int32_t tokens = 0;
  std::vector<float> qkv;  // [tokens, qkv_cols], as they come from the linear layer
  std::vector<BlockId> blocks;
};

struct Outcome {
  std::vector<float> rotated, mixed;  // of all rows, in order
  std::vector<uint8_t> kv;            // every slice of the layer
};

constexpr uint32_t kBlocks = 16;
constexpr uint32_t kLayer = 1;

struct AttentionCase {
  AttentionShape shape;
  int32_t window = 0;
};

class AttentionTest : public ::testing::TestWithParam<AttentionCase> {
 protected:
  const AttentionShape& shape() const { return GetParam().shape; }
  AttentionRule rule() const {
    return {.scale = 1 / std::sqrt(static_cast<float>(shape().head_dim)),
            .window = GetParam().window};
  }

  Sequence Make(int32_t tokens, uint32_t first_block, uint32_t seed) const {
    Sequence sequence{tokens, RandomFloats(int64_t{tokens} * shape().qkv_cols(), seed, 1.5f), {}};
    // Blocks in an order of their own.
    for (int32_t i = (tokens + 15) / 16; i-- > 0;) {
      sequence.blocks.push_back(BlockId{first_block + i});
    }
    return sequence;
  }

  std::vector<float> Frequencies() const {
    std::vector<float> frequencies(shape().head_dim / 2);
    for (size_t i = 0; i < frequencies.size(); ++i) {
      frequencies[i] = static_cast<float>(std::pow(10000.0, -2.0 * i / shape().head_dim));
    }
    return frequencies;
  }

  // Feeds the sequences in pieces: step s takes chunks[s] tokens of each (all that are left in the
  // last step), side by side in one batch.
  Outcome Feed(Backend* backend, const std::vector<Sequence>& sequences,
               const std::vector<int32_t>& chunks) const {
    auto kv =
        *backend->AllocateKv(backend->KvGeometry(2, shape().kv_heads, shape().head_dim), kBlocks);
    auto frequencies = *backend->MakeVector(Frequencies());
    const int64_t cols = shape().qkv_cols(), out_cols = shape().q_heads * shape().head_dim;
    std::vector<std::vector<float>> rotated(sequences.size()), mixed(sequences.size());
    std::vector<int32_t> done(sequences.size());
    for (size_t step = 0; step <= chunks.size(); ++step) {
      std::vector<SequenceSlice> slices;
      std::vector<size_t> owners;
      std::vector<float> qkv;
      for (size_t i = 0; i < sequences.size(); ++i) {
        const int32_t left = sequences[i].tokens - done[i];
        const int32_t rows = step < chunks.size() ? std::min(chunks[step], left) : left;
        if (rows == 0) continue;
        slices.push_back(
            {static_cast<int32_t>(qkv.size() / cols), rows, done[i], sequences[i].blocks});
        owners.push_back(i);
        const float* const first = sequences[i].qkv.data() + done[i] * cols;
        qkv.insert(qkv.end(), first, first + rows * cols);
        done[i] += rows;
      }
      if (slices.empty()) continue;
      const int64_t rows = static_cast<int64_t>(qkv.size()) / cols;
      std::vector<float> out(rows * out_cols);
      const Tensor in{qkv.data(), rows, cols};
      EXPECT_THAT(backend->RopeAndStoreKv(in, shape(), *frequencies, slices, kLayer, kv.get()),
                  IsOk());
      EXPECT_THAT(backend->Attention(in, shape(), rule(), slices, kLayer, kv.get(),
                                     {out.data(), rows, out_cols}),
                  IsOk());
      EXPECT_THAT(backend->Synchronize(), IsOk());
      for (size_t i = 0; i < slices.size(); ++i) {
        Append(qkv, slices[i], cols, &rotated[owners[i]]);
        Append(out, slices[i], out_cols, &mixed[owners[i]]);
      }
    }
    Outcome outcome;
    for (size_t i = 0; i < sequences.size(); ++i) {
      outcome.rotated.insert(outcome.rotated.end(), rotated[i].begin(), rotated[i].end());
      outcome.mixed.insert(outcome.mixed.end(), mixed[i].begin(), mixed[i].end());
    }
    for (uint32_t block = 0; block < kBlocks; ++block) {
      const auto slice = kv->Slice(kLayer, BlockId{block});
      outcome.kv.insert(outcome.kv.end(), slice.begin(), slice.end());
    }
    return outcome;
  }

 private:
  static void Append(const std::vector<float>& rows, const SequenceSlice& slice, int64_t cols,
                     std::vector<float>* to) {
    const auto first = rows.begin() + slice.first_row * cols;
    to->insert(to->end(), first, first + slice.rows * cols);
  }
};

// Scores of a few tens carry the error of the exponent: about 2^-24 times their size.
TEST_P(AttentionTest, IsWithinTheBoundOfTheReference) {
  const std::vector<Sequence> sequences = {Make(75, 0, 1), Make(1, 5, 2), Make(32, 6, 3)};
  const Outcome want = Feed(MakeReferenceBackend().get(), sequences, {});
  for (const auto& [name, backend] : FastBackends()) {
    SCOPED_TRACE(name);
    const Outcome got = Feed(backend.get(), sequences, {});
    ASSERT_EQ(got.mixed.size(), want.mixed.size());
    for (size_t i = 0; i < want.rotated.size(); ++i) {
      ASSERT_NEAR(got.rotated[i], want.rotated[i], 2e-6) << "qkv " << i;
    }
    for (size_t i = 0; i < want.mixed.size(); ++i) {
      ASSERT_NEAR(got.mixed[i], want.mixed[i], 1e-5) << "output " << i;
    }
  }
}

TEST_P(AttentionTest, BitsDoNotDependOnChunksNeighboursThreadsOrInstructions) {
  const Sequence sequence = Make(75, 0, 4), other = Make(20, 8, 5);
  const std::vector<NamedBackend> backends = FastBackends();
  const Outcome alone = Feed(backends[0].backend.get(), {sequence}, {});
  const Outcome both = Feed(backends[0].backend.get(), {sequence, other}, {});
  EXPECT_TRUE(SameBits({both.mixed.begin(), both.mixed.begin() + alone.mixed.size()}, alone.mixed));
  for (const auto& [name, backend] : backends) {
    for (const std::vector<int32_t>& chunks :
         std::vector<std::vector<int32_t>>{{}, {16, 32}, {1, 1, 1, 40, 1}, {17, 3, 50}}) {
      SCOPED_TRACE(testing::Message() << name << ", " << chunks.size() << " chunks");
      const Outcome got = Feed(backend.get(), {sequence, other}, chunks);
      EXPECT_TRUE(SameBits(got.rotated, both.rotated));
      EXPECT_TRUE(SameBits(got.mixed, both.mixed));
      EXPECT_EQ(got.kv, both.kv);
    }
  }
}

// What lies in slots that are not filled yet is never read: not even as 0 * garbage.
TEST_P(AttentionTest, UnfilledSlotsAreNotRead) {
  const Sequence sequence = Make(21, 0, 6);
  const int64_t cols = shape().qkv_cols(), out_cols = shape().q_heads * shape().head_dim;
  for (const auto& [name, backend] : FastBackends()) {
    std::vector<std::vector<float>> outcomes;
    for (const uint8_t filler : {0x00, 0xff}) {  // zeros, NaNs
      auto kv =
          *backend->AllocateKv(backend->KvGeometry(2, shape().kv_heads, shape().head_dim), kBlocks);
      for (uint32_t block = 0; block < kBlocks; ++block) {
        const auto slice = kv->Slice(kLayer, BlockId{block});
        std::fill(slice.begin(), slice.end(), filler);
      }
      auto frequencies = *backend->MakeVector(Frequencies());
      std::vector<float> qkv = sequence.qkv, out(21 * out_cols);
      const SequenceSlice slice{0, 21, 0, sequence.blocks};
      ASSERT_THAT(backend->RopeAndStoreKv({qkv.data(), 21, cols}, shape(), *frequencies,
                                          {&slice, 1}, kLayer, kv.get()),
                  IsOk());
      ASSERT_THAT(backend->Attention({qkv.data(), 21, cols}, shape(), rule(), {&slice, 1}, kLayer,
                                     kv.get(), {out.data(), 21, out_cols}),
                  IsOk());
      outcomes.push_back(out);
    }
    EXPECT_TRUE(SameBits(outcomes[1], outcomes[0])) << name;
  }
}

// A window hides what lies before it, whatever is there: a block wholly before every row's window
// is not read, and what else is before it weighs nothing.
class WindowTest : public AttentionTest {};

TEST_P(WindowTest, TokensBeforeItDoNotMatter) {
  Sequence sequence = Make(75, 0, 7), other = sequence;
  const int64_t hidden = (75 - rule().window) * shape().qkv_cols();  // for the last row
  for (int64_t i = 0; i < hidden; ++i) other.qkv[i] = 3 - other.qkv[i];
  for (const auto& [name, backend] : AllBackends()) {
    const size_t last = shape().q_heads * shape().head_dim;
    const std::vector<float> mixed = Feed(backend.get(), {sequence}, {}).mixed;
    const std::vector<float> changed = Feed(backend.get(), {other}, {70}).mixed;
    EXPECT_TRUE(SameBits({changed.end() - last, changed.end()}, {mixed.end() - last, mixed.end()}))
        << name;
    EXPECT_FALSE(SameBits({changed.end() - 2 * last, changed.end() - last},
                          {mixed.end() - 2 * last, mixed.end() - last}))
        << name << ": the row before sees one of the tokens that differ";
  }
}

constexpr AttentionCase kWhole[] = {{{9, 3, 64}},  {{4, 4, 8}},   {{16, 1, 20}},
                                    {{10, 2, 80}}, {{7, 1, 128}}, {{20, 10, 16}}};
constexpr AttentionCase kWindowed[] = {{{9, 3, 64}, 33},  {{4, 4, 8}, 5},    {{16, 1, 20}, 1},
                                       {{10, 2, 80}, 16}, {{7, 1, 128}, 74}, {{20, 10, 16}, 19}};

std::string NameOfCase(const ::testing::TestParamInfo<AttentionCase>& info) {
  const AttentionShape& shape = info.param.shape;
  const int32_t window = info.param.window;
  return absl::StrCat("q", shape.q_heads, "kv", shape.kv_heads, "dim", shape.head_dim,
                      window == 0 ? "" : absl::StrCat("window", window));
}

INSTANTIATE_TEST_SUITE_P(Whole, AttentionTest, ::testing::ValuesIn(kWhole), NameOfCase);
INSTANTIATE_TEST_SUITE_P(Windowed, AttentionTest, ::testing::ValuesIn(kWindowed), NameOfCase);
INSTANTIATE_TEST_SUITE_P(Windowed, WindowTest, ::testing::ValuesIn(kWindowed), NameOfCase);

// Heads of a row, normed on their own and in place; v is left alone.
TEST(NormHeads, EqualsTheNormOfEachHead) {
  constexpr int64_t kRows = 19;
  for (const AttentionShape& shape : {AttentionShape{6, 2, 20}, AttentionShape{4, 1, 128}}) {
    const int64_t cols = shape.qkv_cols(), dim = shape.head_dim;
    const std::vector<float> qkv = RandomFloats(kRows * cols, 1, 2);
    for (const auto& [name, backend] : AllBackends()) {
      auto q_weight = *backend->MakeVector(RandomFloats(dim, 2));
      auto k_weight = *backend->MakeVector(RandomFloats(dim, 3));
      std::vector<float> got = qkv, want = qkv;
      ASSERT_THAT(backend->NormHeads({got.data(), kRows, cols}, shape, *q_weight, *k_weight, 1e-6f),
                  IsOk());
      for (int64_t r = 0; r < kRows; ++r) {
        for (int32_t h = 0; h < shape.q_heads + shape.kv_heads; ++h) {
          const Vector& weight = h < shape.q_heads ? *q_weight : *k_weight;
          const int64_t at = r * cols + h * dim;
          std::vector<float> head(qkv.begin() + at, qkv.begin() + at + dim), normed(dim);
          ASSERT_THAT(
              backend->RmsNorm({head.data(), 1, dim}, weight, 1e-6f, {normed.data(), 1, dim}),
              IsOk());
          std::copy(normed.begin(), normed.end(), want.begin() + at);
        }
      }
      EXPECT_TRUE(SameBits(got, want)) << name;
    }
  }
}

TEST(NormHeads, IsEqualOnAllSets) {
  const AttentionShape shape{5, 5, 50};
  const std::vector<NamedBackend> backends = FastBackends();
  std::vector<float> first;
  for (const auto& [name, backend] : backends) {
    std::vector<float> qkv = RandomFloats(7 * shape.qkv_cols(), 4);
    auto weight = *backend->MakeVector(RandomFloats(50, 5));
    ASSERT_THAT(
        backend->NormHeads({qkv.data(), 7, shape.qkv_cols()}, shape, *weight, *weight, 1e-5f),
        IsOk());
    if (first.empty()) first = qkv;
    EXPECT_TRUE(SameBits(qkv, first)) << name;
  }
}

TEST(AttentionArguments, AreRefusedByName) {
  const auto backend = MakeReferenceBackend();
  auto kv = *backend->AllocateKv(backend->KvGeometry(1, 1, 4), 2);
  auto frequencies = *backend->MakeVector(std::vector<float>(2));
  std::vector<float> data(64), out(64);
  const BlockId blocks[] = {BlockId{0}, BlockId{1}};
  const auto call = [&](AttentionShape shape, SequenceSlice slice, uint32_t layer) {
    return backend->RopeAndStoreKv({data.data(), 2, 12}, shape, *frequencies, {&slice, 1}, layer,
                                   kv.get());
  };
  const auto refused = [](const char* what) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what));
  };
  EXPECT_THAT(call({1, 1, 4}, {0, 2, 30, blocks}, 0), IsOk());
  EXPECT_THAT(call({1, 1, 4}, {0, 2, 31, blocks}, 0), refused("ends at position 33"));
  EXPECT_THAT(call({1, 1, 4}, {0, 1, 0, blocks}, 0), refused("the slices cover 1 of 2 rows"));
  EXPECT_THAT(call({1, 1, 4}, {1, 1, 0, blocks}, 0), refused("the next row is 0"));
  EXPECT_THAT(call({1, 1, 4}, {0, 2, 0, blocks}, 1), refused("layer 1 of a cache with 1"));
  EXPECT_THAT(call({2, 2, 2}, {0, 2, 0, blocks}, 0), refused("elements, has 2"));
  EXPECT_THAT(call({3, 2, 4}, {0, 2, 0, blocks}, 0), refused("impossible heads: 3 q, 2 kv of 4"));
  const auto attend = [&](AttentionRule rule) {
    const SequenceSlice slice{0, 2, 0, blocks};
    return backend->Attention({data.data(), 2, 12}, {1, 1, 4}, rule, {&slice, 1}, 0, kv.get(),
                              {out.data(), 2, 4});
  };
  EXPECT_THAT(attend({.scale = 0.5f, .window = 1}), IsOk());
  EXPECT_THAT(attend({.scale = 0.5f, .window = -1}), refused("scale 0.5, window -1"));
  EXPECT_THAT(attend({.scale = 0}), refused("scale 0, window 0"));
  EXPECT_THAT(backend->NormHeads({data.data(), 2, 12}, {1, 1, 4}, *frequencies, *frequencies, 0),
              refused("q_weight must have 4 elements, has 2"));
  KvLayout wrong = backend->KvGeometry(1, 1, 4);
  wrong.version += 1;
  EXPECT_THAT(backend->AllocateKv(wrong, 2), refused("KV layout: version is 2"));
}

TEST(BlockMemory, ClearZeroesOneBlockInAllLayers) {
  const auto backend = MakeReferenceBackend();
  auto kv = *backend->AllocateKv(backend->KvGeometry(3, 2, 4), 4);
  for (uint32_t layer = 0; layer < 3; ++layer) {
    for (uint32_t block = 0; block < 4; ++block) {
      const auto slice = kv->Slice(layer, BlockId{block});
      EXPECT_EQ(slice.size(), kv->layout().slice_bytes());
      std::fill(slice.begin(), slice.end(), 7);
    }
  }
  kv->Clear(BlockId{2});
  for (uint32_t layer = 0; layer < 3; ++layer) {
    for (uint32_t block = 0; block < 4; ++block) {
      EXPECT_THAT(kv->Slice(layer, BlockId{block}), ::testing::Each(block == 2 ? 0 : 7));
    }
  }
}

TEST(BlockMemory, CopyMakesOneBlockEqualToAnotherInAllLayers) {
  for (const auto& [name, backend] : AllBackends()) {
    SCOPED_TRACE(name);
    auto kv = *backend->AllocateKv(backend->KvGeometry(3, 2, 4), 4);
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint32_t block = 0; block < 4; ++block) {
        const auto slice = kv->Slice(layer, BlockId{block});
        for (size_t i = 0; i < slice.size(); ++i) slice[i] = i * 7 + layer * 50 + block * 90;
      }
    }
    kv->Copy(BlockId{3}, BlockId{1});
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint32_t block = 0; block < 4; ++block) {
        const auto slice = kv->Slice(layer, BlockId{block});
        const uint32_t from = block == 1 ? 3 : block;
        for (size_t i = 0; i < slice.size(); ++i) {
          ASSERT_EQ(slice[i], static_cast<uint8_t>(i * 7 + layer * 50 + from * 90));
        }
      }
    }
  }
}

}  // namespace
}  // namespace tandem
