#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/model/model.h"

namespace tandem {

// How long a step takes: `step`, and a time for each row. A row that comes alone is a decode's.
struct SimTiming {
  absl::Duration step = absl::Milliseconds(10);
  absl::Duration prefill_row = absl::Microseconds(200);
  absl::Duration decode_row = absl::Microseconds(500);
};

// A stand-in for a model that takes time instead of computing, so that routers and schedulers can
// be tried at a scale that no arithmetic would allow. At each position the KV cache holds a hash of
// the tokens so far, 8 bytes, and the logits follow from it: the same tokens give the same answer
// whatever the batches, and a block that is lost, mixed up or not handed over changes it. So do
// other weights: their digest goes into each hash.
//   shape   logits are 0 but for kLikely tokens of a row, of which none ends an output
//   errors  InvalidArgument for a batch above max_rows or max_logit_rows
//   threads one at a time (the engine's); Forward blocks for as long as the step takes
class SimModel final : public Model {
 public:
  static constexpr int kLikely = 4;

  struct Options {
    uint32_t kv_blocks = 0;       // > 0
    int32_t max_rows = 512;       // > 0
    int32_t max_logit_rows = 64;  // > 0
    SimTiming timing;
    std::string kv_abi, weights_digest, tokenizer_digest;  // what kv()->layout() says
    std::function<void(absl::Duration)> wait;              // lets the time pass
  };

  // What blocks look like: the same for every model, and no other backend's.
  static KvLayout KvGeometry();
  // `spec`: its vocabulary and eos_ids are used, the rest is only told.
  static absl::StatusOr<std::unique_ptr<SimModel>> Create(const ModelSpec& spec, Options options);

  const ModelSpec& spec() const override { return spec_; }
  BlockMemory* kv() override { return memory_.get(); }
  int32_t max_rows() const override { return options_.max_rows; }
  int32_t max_logit_rows() const override { return options_.max_logit_rows; }
  absl::StatusOr<absl::Span<const float>> Forward(const Batch& batch,
                                                  LayerObserver* observer) override;

 private:
  SimModel(const ModelSpec& spec, Options options);
  absl::Duration TimeOf(const Batch& batch) const;
  uint64_t* HashAt(const SequenceSlice& slice, int32_t position);
  void Store(const SequenceSlice& slice, const Batch& batch);
  void MakeLogits(uint64_t hash, size_t row);

  const ModelSpec spec_;
  const Options options_;
  const uint64_t weights_;  // the digest, mixed
  const std::unique_ptr<BlockMemory> memory_;
  std::vector<float> logits_;   // [max_logit_rows, vocab]
  std::vector<size_t> likely_;  // those that are not 0
};

}  // namespace tandem
