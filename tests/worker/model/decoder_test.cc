#include "worker/model/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "tests/support/random_model.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/backend/backends.h"

namespace tandem {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// One sequence that is fed to a decoder in pieces.
class Sequence {
 public:
  Sequence(Decoder* decoder, std::vector<BlockId> blocks)
      : decoder_(decoder), blocks_(std::move(blocks)) {}

  // Logits of every row of the piece.
  absl::StatusOr<std::vector<float>> Feed(absl::Span<const int32_t> tokens,
                                          LayerObserver* observer = nullptr) {
    const int32_t rows = static_cast<int32_t>(tokens.size());
    std::vector<int32_t> all(rows);
    std::iota(all.begin(), all.end(), 0);
    const SequenceSlice slice{0, rows, position_, blocks_};
    position_ += rows;
    const absl::StatusOr<absl::Span<const float>> logits =
        decoder_->Forward({tokens, {&slice, 1}, all}, observer);
    if (!logits.ok()) return logits.status();
    return std::vector<float>(logits->begin(), logits->end());
  }

 private:
  Decoder* const decoder_;
  const std::vector<BlockId> blocks_;
  int32_t position_ = 0;
};

// On the reference, and on the fast path with two threads.
class DecoderTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Decoder> Load(const RandomModel& model) {
    const auto find = [&model](absl::string_view name, int layer) {
      return model.Find(name, layer);
    };
    absl::StatusOr<std::unique_ptr<Decoder>> decoder =
        Decoder::Load(model.spec(), find, backend_.get(), {.kv_blocks = 12, .max_rows = 64});
    EXPECT_THAT(decoder, IsOk());
    return decoder.ok() ? *std::move(decoder) : nullptr;
  }

  std::vector<int32_t> Tokens(int count) {
    std::vector<int32_t> tokens(count);
    for (int i = 0; i < count; ++i) tokens[i] = (i * 37 + 5) % 101;
    return tokens;
  }

  static std::vector<BlockId> Blocks(std::initializer_list<uint32_t> ids) {
    std::vector<BlockId> blocks;
    for (const uint32_t id : ids) blocks.push_back(BlockId{id});
    return blocks;
  }

  std::unique_ptr<Backend> backend_ =
      GetParam() ? MakeReferenceBackend() : CpuBackendOf(InstructionSet::kBest, 2);
  RandomModel model_{RandomModel::SmallSpec()};
};

// Of a plain model, and of one with windows, norms of heads, biases and yarn's longer rotations.
class ChunkTest : public DecoderTest {
 protected:
  static ModelSpec RichSpec() {
    ModelSpec spec = RandomModel::SmallSpec();
    spec.windows = {18, 5};
    spec.qk_norm = spec.qkv_bias = spec.o_bias = true;
    spec.rope.magnitude = 1.3;
    return spec;
  }
  void ChunksAndBlockOrderDoNotChangeLogits(const RandomModel& model);
};

void ChunkTest::ChunksAndBlockOrderDoNotChangeLogits(const RandomModel& model) {
  const std::unique_ptr<Decoder> decoder = Load(model);
  const std::vector<int32_t> tokens = Tokens(40);
  Sequence whole(decoder.get(), Blocks({0, 1, 2}));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> want, whole.Feed(tokens));
  Sequence pieces(decoder.get(), Blocks({9, 4, 7}));
  std::vector<float> got;
  for (const auto& [first, count] : {std::pair{0, 16}, {16, 1}, {17, 20}, {37, 3}}) {
    ASSERT_OK_AND_ASSIGN(const std::vector<float> piece,
                         pieces.Feed(absl::MakeSpan(tokens).subspan(first, count)));
    got.insert(got.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(got, want);
}

TEST_P(ChunkTest, DoNotChangeLogits) { ChunksAndBlockOrderDoNotChangeLogits(model_); }
TEST_P(ChunkTest, DoNotChangeLogitsOfARichModel) {
  ChunksAndBlockOrderDoNotChangeLogits(RandomModel(RichSpec()));
}

TEST_P(DecoderTest, ASequenceDoesNotSeeItsNeighbours) {
  const std::unique_ptr<Decoder> decoder = Load(model_);
  const std::vector<int32_t> tokens = Tokens(30);
  Sequence alone(decoder.get(), Blocks({0, 1}));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> want, alone.Feed(tokens));

  std::vector<int32_t> batch = Tokens(20);
  batch.insert(batch.end(), tokens.begin(), tokens.end());
  const std::vector<BlockId> first = Blocks({2, 3}), second = Blocks({4, 5});
  const SequenceSlice slices[] = {{0, 20, 0, first}, {20, 30, 0, second}};
  const int32_t last_row[] = {49};
  ASSERT_OK_AND_ASSIGN(const absl::Span<const float> logits,
                       decoder->Forward({batch, slices, last_row}, nullptr));
  EXPECT_EQ(std::vector<float>(logits.begin(), logits.end()),
            std::vector<float>(want.end() - 101, want.end()));
}

// Sees the k of the first token change from layer to layer.
class KvWatcher : public LayerObserver {
 public:
  explicit KvWatcher(BlockMemory* kv) : kv_(kv) {}
  void OnLayer(uint32_t layer) override {
    layers.push_back(layer);
    const absl::Span<const uint8_t> slice = kv_->Slice(layer, BlockId{0});
    filled.push_back(std::any_of(slice.begin(), slice.end(), [](uint8_t b) { return b != 0; }));
  }
  std::vector<uint32_t> layers;
  std::vector<bool> filled;

 private:
  BlockMemory* const kv_;
};

TEST_P(DecoderTest, TheObserverSeesEachLayersKvInOrder) {
  const std::unique_ptr<Decoder> decoder = Load(model_);
  KvWatcher watcher(decoder->kv());
  Sequence sequence(decoder.get(), Blocks({0}));
  ASSERT_THAT(sequence.Feed(Tokens(3), &watcher), IsOk());
  EXPECT_THAT(watcher.layers, ElementsAre(0, 1));
  EXPECT_THAT(watcher.filled, ElementsAre(true, true));
}

TEST_P(DecoderTest, EveryOptionOfTheSpecIsUsed) {
  std::vector<std::vector<float>> answers;
  for (int option = 0; option < 8; ++option) {
    ModelSpec spec = RandomModel::SmallSpec();
    spec.qkv_bias = option == 1;
    spec.o_bias = option == 2;
    spec.mlp_bias = option == 3;
    spec.tied_embeddings = option != 4;
    spec.qk_norm = option == 5;
    if (option == 6) spec.windows = {0, 3};
    if (option == 7) spec.rope.magnitude = 1.5;
    const RandomModel model(spec);
    const std::unique_ptr<Decoder> decoder = Load(model);
    Sequence sequence(decoder.get(), Blocks({0}));
    ASSERT_OK_AND_ASSIGN(std::vector<float> logits, sequence.Feed(Tokens(5)));
    EXPECT_THAT(answers, Not(Contains(logits))) << "option " << option;
    answers.push_back(std::move(logits));
  }
}

TEST_P(DecoderTest, WrongBatchesAreRefusedByName) {
  const std::unique_ptr<Decoder> decoder = Load(model_);
  const std::vector<BlockId> blocks = Blocks({0});
  const auto forward = [&](std::vector<int32_t> tokens, SequenceSlice slice) {
    return decoder->Forward({tokens, {&slice, 1}, {}}, nullptr);
  };
  const absl::StatusCode invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(forward({}, {0, 0, 0, blocks}), StatusIs(invalid, HasSubstr("0 rows")));
  EXPECT_THAT(forward(Tokens(65), {0, 65, 0, blocks}), StatusIs(invalid, HasSubstr("1 to 64")));
  EXPECT_THAT(forward({101}, {0, 1, 0, blocks}),
              StatusIs(invalid, HasSubstr("ids[0] is 101, outside [0, 101)")));
  EXPECT_THAT(forward({1, 2}, {0, 2, 15, blocks}),
              StatusIs(invalid, HasSubstr("ends at position 17, its blocks hold 16")));
  const std::vector<BlockId> outside = Blocks({12});
  EXPECT_THAT(forward({1}, {0, 1, 0, outside}), StatusIs(invalid, HasSubstr("block 12 of 12")));
}

TEST_P(DecoderTest, AMissingWeightEndsLoading) {
  const auto find = [this](absl::string_view name, int layer) -> absl::StatusOr<WeightView> {
    if (name == "up" && layer == 1) return absl::NotFoundError("no weight up");
    return model_.Find(name, layer);
  };
  EXPECT_THAT(Decoder::Load(model_.spec(), find, backend_.get(), {.kv_blocks = 1}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("layer 1: no weight up")));
}

INSTANTIATE_TEST_SUITE_P(Backends, ChunkTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "reference" : "cpu"; });

// Loading with a scheme gives the bits of a file that holds the quantised weights, and another
// numerics class; weights without whole groups (48 or 72 inputs) stay as they are.
TEST_P(DecoderTest, WeightsAreQuantisedOnLoad) {
  ModelSpec spec = RandomModel::SmallSpec();
  spec.dim = 64;
  const RandomModel model(spec);
  for (const WeightScheme scheme : {WeightScheme::kInt8, WeightScheme::kInt4}) {
    std::deque<QuantizedWeight> kept;
    const auto stored = [&](absl::string_view name, int layer) { return model.Find(name, layer); };
    const auto quantised = [&](absl::string_view name, int layer) -> absl::StatusOr<WeightView> {
      ASSIGN_OR_RETURN(const WeightView view, model.Find(name, layer));
      const DType to = TypeUnder(scheme, name, view);
      if (view.rows == 1 || to == view.dtype) return view;
      ASSIGN_OR_RETURN(QuantizedWeight weight, Quantize(view, to));
      return kept.emplace_back(std::move(weight)).view;
    };
    std::vector<std::vector<float>> answers;
    for (const WeightScheme on_load : {WeightScheme::kStored, scheme}) {
      const Decoder::Options options{.kv_blocks = 1, .max_rows = 64, .weights = on_load};
      ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Decoder> decoder,
                           on_load == WeightScheme::kStored
                               ? Decoder::Load(spec, quantised, backend_.get(), options)
                               : Decoder::Load(spec, stored, backend_.get(), options));
      Sequence sequence(decoder.get(), Blocks({0}));
      ASSERT_OK_AND_ASSIGN(std::vector<float> logits, sequence.Feed(Tokens(5)));
      answers.push_back(std::move(logits));
      EXPECT_EQ(decoder->kv()->layout().numerics_class,
                on_load == WeightScheme::kStored
                    ? backend_->numerics_class()
                    : absl::StrCat(backend_->numerics_class(), "/", NameOf(scheme)));
    }
    EXPECT_EQ(answers[0], answers[1]) << NameOf(scheme);
    EXPECT_FALSE(kept.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, DecoderTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "reference" : "cpu"; });

}  // namespace
}  // namespace tandem
