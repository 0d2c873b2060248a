#include "worker/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/backend/cpu/thread_pool.h"
#include "worker/model/rope.h"

namespace tandem {
namespace {

absl::StatusOr<std::vector<WeightView>> FindAll(FindWeight find,
                                                std::initializer_list<absl::string_view> names,
                                                int layer) {
  std::vector<WeightView> views;
  for (const absl::string_view name : names) {
    ASSIGN_OR_RETURN(WeightView view, find(name, layer));
    views.push_back(std::move(view));
  }
  return views;
}

// Packs weights of one layer by name; the first error stays and ends the rest.
class Packer {
 public:
  Packer(FindWeight find, Backend* backend, WeightScheme scheme, int layer)
      : find_(find), backend_(backend), scheme_(scheme), layer_(layer) {}

  std::unique_ptr<Matrix> PackMatrix(std::initializer_list<absl::string_view> names) {
    return Keep<Matrix>([&]() -> absl::StatusOr<std::unique_ptr<Matrix>> {
      ASSIGN_OR_RETURN(std::vector<WeightView> views, FindAll(find_, names, layer_));
      std::vector<QuantizedWeight> quantized;  // what `views` then point into
      for (size_t i = 0; i < views.size(); ++i) {
        const DType to = TypeUnder(scheme_, names.begin()[i], views[i]);
        if (to == views[i].dtype) continue;
        ASSIGN_OR_RETURN(QuantizedWeight weight, Quantize(views[i], to, AvailableCores()));
        quantized.push_back(std::move(weight));
        views[i] = quantized.back().view;
      }
      return backend_->PackMatrix(views);
    });
  }
  std::unique_ptr<Vector> PackVector(std::initializer_list<absl::string_view> names) {
    return Keep<Vector>([&]() -> absl::StatusOr<std::unique_ptr<Vector>> {
      ASSIGN_OR_RETURN(const std::vector<WeightView> views, FindAll(find_, names, layer_));
      return backend_->PackVector(views);
    });
  }
  const absl::Status& status() const { return status_; }

 private:
  template <typename T, typename Pack>
  std::unique_ptr<T> Keep(Pack pack) {
    if (!status_.ok()) return nullptr;
    absl::StatusOr<std::unique_ptr<T>> packed = pack();
    status_ = packed.status();
    return status_.ok() ? *std::move(packed) : nullptr;
  }

  const FindWeight find_;
  Backend* const backend_;
  const WeightScheme scheme_;
  const int layer_;
  absl::Status status_;
};

}  // namespace

KvLayout KvGeometryOf(const ModelSpec& spec, const Backend& backend, WeightScheme weights) {
  KvLayout layout = backend.KvGeometry(spec.layers, spec.kv_heads, spec.head_dim);
  if (weights != WeightScheme::kStored)
    absl::StrAppend(&layout.numerics_class, "/", NameOf(weights));
  return layout;
}

Decoder::Decoder(const ModelSpec& spec, Backend* backend, const Options& options)
    : spec_(spec),
      backend_(backend),
      options_(options),
      shape_{spec.q_heads, spec.kv_heads, spec.head_dim} {}

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Load(const ModelSpec& spec, FindWeight find,
                                                       Backend* backend, const Options& options) {
  if (options.max_rows < 1 || options.max_logit_rows < 1 || options.kv_blocks < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("decoder: want max_rows, max_logit_rows and kv_blocks above 0, found ",
                     options.max_rows, ", ", options.max_logit_rows, " and ", options.kv_blocks));
  }
  auto decoder = absl::WrapUnique(new Decoder(spec, backend, options));
  RETURN_IF_ERROR(decoder->LoadWeights(find));
  RETURN_IF_ERROR(decoder->AllocateBuffers());
  RETURN_IF_ERROR(decoder->AllocateKv());
  return decoder;
}

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Load(const ModelFiles& files, Backend* backend,
                                                       const Options& options) {
  const auto find = [&files](absl::string_view name, int layer) {
    return files.Weight(name, layer);
  };
  return Load(files.spec(), find, backend, options);
}

absl::Status Decoder::LoadWeights(FindWeight find) {
  Packer packer(find, backend_, options_.weights, kNoLayer);
  embed_ = packer.PackMatrix({"embed"});
  if (!spec_.tied_embeddings) lm_head_ = packer.PackMatrix({"lm_head"});
  final_norm_ = packer.PackVector({"final_norm"});
  RETURN_IF_ERROR(packer.status());
  ASSIGN_OR_RETURN(inv_freq_, backend_->MakeVector(RopeFrequencies(spec_.rope, spec_.head_dim)));
  for (int i = 0; i < spec_.layers; ++i) {
    ASSIGN_OR_RETURN(Layer layer, LoadLayer(find, i));
    layers_.push_back(std::move(layer));
  }
  return absl::OkStatus();
}

absl::StatusOr<Decoder::Layer> Decoder::LoadLayer(FindWeight find, int index) {
  Packer packer(find, backend_, options_.weights, index);
  Layer layer;
  layer.attn_norm = packer.PackVector({"attn_norm"});
  layer.qkv = packer.PackMatrix({"q", "k", "v"});
  layer.o = packer.PackMatrix({"o"});
  layer.ffn_norm = packer.PackVector({"ffn_norm"});
  layer.gate_up = packer.PackMatrix({"gate", "up"});
  layer.down = packer.PackMatrix({"down"});
  layer.rule = RuleOf(index);
  if (spec_.qkv_bias) layer.qkv_bias = packer.PackVector({"q_bias", "k_bias", "v_bias"});
  if (spec_.o_bias) layer.o_bias = packer.PackVector({"o_bias"});
  if (spec_.qk_norm) {
    layer.q_norm = packer.PackVector({"q_norm"});
    layer.k_norm = packer.PackVector({"k_norm"});
  }
  if (spec_.mlp_bias) {
    layer.gate_up_bias = packer.PackVector({"gate_bias", "up_bias"});
    layer.down_bias = packer.PackVector({"down_bias"});
  }
  RETURN_IF_ERROR(Annotate(packer.status(), absl::StrCat("layer ", index)));
  return layer;
}

// Rotated q and k are both `magnitude` times as long: their products that squared.
AttentionRule Decoder::RuleOf(int layer) const {
  const double magnitude = spec_.rope.magnitude;
  const double scale = magnitude * magnitude / std::sqrt(static_cast<double>(spec_.head_dim));
  return {.scale = static_cast<float>(scale),
          .window = spec_.windows.empty() ? 0 : spec_.windows[layer]};
}

absl::Status Decoder::AllocateBuffers() {
  const auto allocate = [this](float** to, int64_t rows, int64_t cols) -> absl::Status {
    ASSIGN_OR_RETURN(*to, backend_->AllocateActivations(rows * cols));
    return absl::OkStatus();
  };
  const int64_t rows = options_.max_rows;
  RETURN_IF_ERROR(allocate(&buffers_.x, rows, spec_.dim));
  RETURN_IF_ERROR(allocate(&buffers_.normed, rows, spec_.dim));
  RETURN_IF_ERROR(allocate(&buffers_.qkv, rows, shape_.qkv_cols()));
  RETURN_IF_ERROR(allocate(&buffers_.mix, rows, q_cols()));
  RETURN_IF_ERROR(allocate(&buffers_.gate_up, rows, int64_t{2} * spec_.ffn_dim));
  RETURN_IF_ERROR(allocate(&buffers_.ffn, rows, spec_.ffn_dim));
  RETURN_IF_ERROR(allocate(&buffers_.gathered, options_.max_logit_rows, spec_.dim));
  return allocate(&buffers_.logits, options_.max_logit_rows, spec_.vocab);
}

absl::Status Decoder::AllocateKv() {
  KvLayout layout = KvGeometryOf(spec_, *backend_, options_.weights);
  layout.kv_abi = options_.kv_abi;
  layout.weights_digest = options_.weights_digest;
  layout.tokenizer_digest = options_.tokenizer_digest;
  ASSIGN_OR_RETURN(kv_, backend_->AllocateKv(layout, options_.kv_blocks));
  return absl::OkStatus();
}

absl::Status Decoder::CheckBatch(const Batch& batch) const {
  if (batch.token_ids.empty() || batch.token_ids.size() > options_.max_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("batch: ", batch.token_ids.size(), " rows, want 1 to ", options_.max_rows));
  }
  const size_t logit_rows_max = std::min<size_t>(options_.max_logit_rows, batch.token_ids.size());
  if (batch.logit_rows.size() > logit_rows_max) {
    return absl::InvalidArgumentError(absl::StrCat("batch: logits of ", batch.logit_rows.size(),
                                                   " rows, want up to ", logit_rows_max));
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::Span<const float>> Decoder::Forward(const Batch& batch,
                                                         LayerObserver* observer) {
  RETURN_IF_ERROR(CheckBatch(batch));
  const int64_t rows = static_cast<int64_t>(batch.token_ids.size());
  RETURN_IF_ERROR(backend_->Embed(*embed_, batch.token_ids, {buffers_.x, rows, spec_.dim}));
  for (uint32_t i = 0; i < layers_.size(); ++i) {
    RETURN_IF_ERROR(Annotate(Attend(batch, i, observer), absl::StrCat("layer ", i)));
    RETURN_IF_ERROR(Annotate(FeedForward(layers_[i], rows), absl::StrCat("layer ", i)));
  }
  RETURN_IF_ERROR(ComputeLogits(batch));
  RETURN_IF_ERROR(backend_->Synchronize());
  return absl::MakeConstSpan(buffers_.logits, batch.logit_rows.size() * spec_.vocab);
}

absl::Status Decoder::Attend(const Batch& batch, uint32_t index, LayerObserver* observer) {
  const Layer& layer = layers_[index];
  const int64_t rows = static_cast<int64_t>(batch.token_ids.size());
  const Tensor x{buffers_.x, rows, spec_.dim};
  const Tensor normed{buffers_.normed, rows, spec_.dim};
  const Tensor qkv{buffers_.qkv, rows, shape_.qkv_cols()};
  const Tensor mix{buffers_.mix, rows, q_cols()};
  RETURN_IF_ERROR(backend_->RmsNorm(x, *layer.attn_norm, spec_.norm_eps, normed));
  RETURN_IF_ERROR(backend_->Linear(*layer.qkv, normed, layer.qkv_bias.get(), false, qkv));
  if (layer.q_norm != nullptr) {
    RETURN_IF_ERROR(backend_->NormHeads(qkv, shape_, *layer.q_norm, *layer.k_norm, spec_.norm_eps));
  }
  RETURN_IF_ERROR(
      backend_->RopeAndStoreKv(qkv, shape_, *inv_freq_, batch.slices, index, kv_.get()));
  if (observer != nullptr) {
    RETURN_IF_ERROR(backend_->Synchronize());
    observer->OnLayer(index);
  }
  RETURN_IF_ERROR(
      backend_->Attention(qkv, shape_, layer.rule, batch.slices, index, kv_.get(), mix));
  return backend_->Linear(*layer.o, mix, layer.o_bias.get(), true, x);
}

absl::Status Decoder::FeedForward(const Layer& layer, int64_t rows) {
  const Tensor x{buffers_.x, rows, spec_.dim};
  const Tensor normed{buffers_.normed, rows, spec_.dim};
  const Tensor gate_up{buffers_.gate_up, rows, int64_t{2} * spec_.ffn_dim};
  const Tensor ffn{buffers_.ffn, rows, spec_.ffn_dim};
  RETURN_IF_ERROR(backend_->RmsNorm(x, *layer.ffn_norm, spec_.norm_eps, normed));
  RETURN_IF_ERROR(
      backend_->Linear(*layer.gate_up, normed, layer.gate_up_bias.get(), false, gate_up));
  RETURN_IF_ERROR(backend_->SwiGlu(gate_up, ffn));
  return backend_->Linear(*layer.down, ffn, layer.down_bias.get(), true, x);
}

absl::Status Decoder::ComputeLogits(const Batch& batch) {
  if (batch.logit_rows.empty()) return absl::OkStatus();
  const int64_t rows = static_cast<int64_t>(batch.token_ids.size());
  const int64_t wanted = static_cast<int64_t>(batch.logit_rows.size());
  const Tensor gathered{buffers_.gathered, wanted, spec_.dim};
  const Tensor normed{buffers_.normed, wanted, spec_.dim};
  RETURN_IF_ERROR(backend_->GatherRows({buffers_.x, rows, spec_.dim}, batch.logit_rows, gathered));
  RETURN_IF_ERROR(backend_->RmsNorm(gathered, *final_norm_, spec_.norm_eps, normed));
  const Matrix& head = lm_head_ != nullptr ? *lm_head_ : *embed_;
  return backend_->Linear(head, normed, nullptr, false, {buffers_.logits, wanted, spec_.vocab});
}

}  // namespace tandem
