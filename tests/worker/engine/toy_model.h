#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/fake_clock.h"
#include "worker/engine/request.h"
#include "worker/model/model.h"
#include "worker/sampler/logprobs.h"

namespace tandem {

// KV blocks in plain memory.
class ToyMemory final : public BlockMemory {
 public:
  ToyMemory(KvLayout layout, uint32_t blocks);
  const KvLayout& layout() const override { return layout_; }
  uint32_t blocks() const override { return blocks_; }
  absl::Span<uint8_t> Slice(uint32_t layer, BlockId block) override;
  void Clear(BlockId block) override;
  void Copy(BlockId from, BlockId to) override;
  uint32_t cleared = 0;  // calls of Clear
  uint32_t copied = 0;   // calls of Copy

 private:
  const KvLayout layout_;
  const uint32_t blocks_;
  std::vector<uint8_t> bytes_;
};

// A model whose logits are a hash of what stands in the KV cache at positions 0..p of the
// sequence: a wrong block, a missing clear, a wrong position or a lost token changes the answer.
// It also checks every batch that it gets; `faults` lists what was wrong.
class ToyModel final : public Model {
 public:
  struct Options {
    uint32_t blocks = 64;
    uint64_t weights = 1;  // other ones give other answers
    int32_t max_rows = 64;
    int32_t max_logit_rows = 64;
    absl::Duration per_row;      // virtual time that a row takes
    absl::Duration per_step;     // and a step besides
    FakeClock* clock = nullptr;  // moved by it
  };
  static constexpr int32_t kVocab = 48;
  static constexpr uint32_t kLayers = 2;

  explicit ToyModel(const Options& options);
  const ModelSpec& spec() const override { return spec_; }
  ToyMemory* kv() override { return &memory_; }
  int32_t max_rows() const override { return options_.max_rows; }
  int32_t max_logit_rows() const override { return options_.max_logit_rows; }
  absl::StatusOr<absl::Span<const float>> Forward(const Batch& batch,
                                                  LayerObserver* observer) override;

  bool fail_next = false;
  int32_t largest_batch = 0;  // rows
  int64_t rows = 0;           // of all batches
  std::vector<std::string> faults;

 private:
  void Check(bool ok, absl::string_view what);
  void CheckBatch(const Batch& batch);
  void Store(const SequenceSlice& slice, const Batch& batch, uint32_t layer);
  std::vector<float> LogitsAt(const SequenceSlice& slice, int32_t row);

  const Options options_;
  ModelSpec spec_;
  ToyMemory memory_;
  std::vector<float> logits_;
};

// What one output of a request must be, computed without an engine.
struct ToyAnswer {
  std::vector<int32_t> token_ids;
  std::vector<PositionLogprobs> logprobs;         // of each token, if asked for
  std::vector<PositionLogprobs> prompt_logprobs;  // if asked for
  bool stopped = false;                           // by a stop id, else by max_tokens
};
ToyAnswer ExpectedAnswer(const EngineRequest& request, uint32_t output = 0, uint64_t weights = 1);
// The same with another model: `logits_after` each token, called in the sequence's order.
using LogitsAfter = std::function<std::vector<float>(int32_t token)>;
ToyAnswer ExpectedAnswer(const EngineRequest& request, uint32_t output,
                         const LogitsAfter& logits_after);

}  // namespace tandem
