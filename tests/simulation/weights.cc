#include "tests/simulation/weights.h"

#include <utility>
#include <vector>

namespace tandem {
namespace {

uint64_t ToyWeightsOf(const Weights& weights) {
  return static_cast<unsigned char>(weights.revision[0]);
}

}  // namespace

LoadedWeights Load(const Weights& weights, uint32_t blocks, const SimTiming& timing,
                   std::function<void(absl::Duration)> wait) {
  if (weights.backend == Weights::Backend::kToy) {
    ToyModel::Options options = {.blocks = blocks};
    options.weights = ToyWeightsOf(weights);
    auto toy = std::make_unique<ToyModel>(options);
    const ToyModel* const same = toy.get();
    return {std::move(toy), same};
  }
  ModelSpec spec;
  spec.vocab = ToyModel::kVocab;
  spec.eos_ids = {0};
  SimModel::Options options;
  options.kv_blocks = blocks;
  options.max_rows = 64;
  options.timing = timing;
  options.kv_abi = options.weights_digest = weights.revision;
  options.wait = std::move(wait);
  return {*SimModel::Create(spec, std::move(options)), nullptr};
}

ToyAnswer ExpectedAnswer(const EngineRequest& request, uint32_t output, const Weights& weights) {
  if (weights.backend == Weights::Backend::kToy) {
    return ExpectedAnswer(request, output, ToyWeightsOf(weights));
  }
  std::vector<BlockId> blocks;
  for (size_t i = 0; i <= (request.prompt.size() + request.max_tokens) / 16; ++i) {
    blocks.push_back(BlockId(i));
  }
  const auto model =
      Load(weights, static_cast<uint32_t>(blocks.size()), {}, [](absl::Duration) {}).model;
  int32_t position = 0;
  return ExpectedAnswer(request, output, [&](int32_t token) {
    const int32_t row = 0;
    SequenceSlice slice;
    slice.rows = 1;
    slice.position = position++;
    slice.blocks = absl::MakeConstSpan(blocks).first(slice.position / 16 + 1);
    const absl::Span<const float> logits =
        *model->Forward({absl::MakeConstSpan(&token, 1), absl::MakeConstSpan(&slice, 1),
                         absl::MakeConstSpan(&row, 1)},
                        nullptr);
    return std::vector<float>(logits.begin(), logits.end());
  });
}

}  // namespace tandem
