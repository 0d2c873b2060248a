#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "worker/backend/backend.h"
#include "worker/model/model.h"
#include "worker/model/model_files.h"
#include "worker/model/quantize.h"
#include "worker/model/spec.h"
#include "worker/model/weight_view.h"

namespace tandem {

// A weight by its name in families.cc ("embed", "q", ...); layer -1 for those that no layer owns.
// A tied lm_head is the embedding.
using FindWeight = absl::FunctionRef<absl::StatusOr<WeightView>(absl::string_view name, int layer)>;

// The geometry of the KV cache that a decoder of `spec` has: `weights` is part of its numerics
// class.
KvLayout KvGeometryOf(const ModelSpec& spec, const Backend& backend, WeightScheme weights);

// A pre-norm transformer: one forward pass over any spec of families.h. q, k and v are one matrix,
// gate and up another; a tied embedding is packed once.
//   life    the weights are copied into the backend: files may be closed after Load. The backend
//           outlives this.
//   errors  of Load: InvalidArgument that names the weight; ResourceExhausted without memory.
//           of Forward: InvalidArgument that names the op and the shapes; nothing was computed for
//           a batch above max_rows or max_logit_rows
//   threads one at a time (the engine's)
class Decoder final : public Model {
 public:
  struct Options {
    uint32_t kv_blocks = 0;       // > 0
    int32_t max_rows = 512;       // rows of a batch, 1 or more
    int32_t max_logit_rows = 64;  // rows of a batch whose logits are wanted, 1 or more
    WeightScheme weights = WeightScheme::kStored;
    // What kv()->layout() says beside its geometry: digests, kv_abi.
    std::string kv_abi, weights_digest, tokenizer_digest;
  };

  static absl::StatusOr<std::unique_ptr<Decoder>> Load(const ModelSpec& spec, FindWeight find,
                                                       Backend* backend, const Options& options);
  static absl::StatusOr<std::unique_ptr<Decoder>> Load(const ModelFiles& files, Backend* backend,
                                                       const Options& options);

  const ModelSpec& spec() const override { return spec_; }
  BlockMemory* kv() override { return kv_.get(); }
  int32_t max_rows() const override { return options_.max_rows; }
  int32_t max_logit_rows() const override { return options_.max_logit_rows; }
  absl::StatusOr<absl::Span<const float>> Forward(const Batch& batch,
                                                  LayerObserver* observer) override;

 private:
  struct Layer {
    std::unique_ptr<Vector> attn_norm, ffn_norm;
    std::unique_ptr<Matrix> qkv, o, gate_up, down;
    std::unique_ptr<Vector> qkv_bias, o_bias, gate_up_bias, down_bias;  // null: none
    std::unique_ptr<Vector> q_norm, k_norm;                             // null: none
    AttentionRule rule;
  };
  // Activations of one pass, [max_rows, ...] each; logits are [max_logit_rows, vocab].
  struct Buffers {
    float *x = nullptr, *normed = nullptr, *qkv = nullptr, *mix = nullptr;
    float *gate_up = nullptr, *ffn = nullptr, *gathered = nullptr, *logits = nullptr;
  };

  Decoder(const ModelSpec& spec, Backend* backend, const Options& options);
  absl::Status LoadWeights(FindWeight find);
  absl::StatusOr<Layer> LoadLayer(FindWeight find, int index);
  absl::Status AllocateBuffers();
  absl::Status AllocateKv();
  absl::Status CheckBatch(const Batch& batch) const;
  absl::Status Attend(const Batch& batch, uint32_t index, LayerObserver* observer);
  absl::Status FeedForward(const Layer& layer, int64_t rows);
  absl::Status ComputeLogits(const Batch& batch);
  AttentionRule RuleOf(int layer) const;
  int64_t q_cols() const { return int64_t{spec_.q_heads} * spec_.head_dim; }

  const ModelSpec spec_;
  Backend* const backend_;
  const Options options_;
  const AttentionShape shape_;
  std::unique_ptr<Matrix> embed_, lm_head_;  // lm_head_ is null where it is embed_
  std::unique_ptr<Vector> final_norm_, inv_freq_;
  std::vector<Layer> layers_;
  Buffers buffers_;
  std::unique_ptr<BlockMemory> kv_;
};

}  // namespace tandem
