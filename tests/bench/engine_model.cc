#include "tests/bench/engine_model.h"

#include <cstring>

#include "worker/model/families.h"

namespace tandem {
namespace {

const Family& FamilyOf(const ModelSpec& spec) { return **FamilyOfHf(spec.architecture); }

const WeightRule* RuleOf(const ModelSpec& spec, absl::string_view name) {
  for (const WeightRule& rule : FamilyOf(spec).weights) {
    if (rule.name == name && HasWeight(spec, rule)) return &rule;
  }
  return nullptr;
}

// A weight of about 0.02, evenly spread.
void PutRandom(DType dtype, uint32_t random, uint8_t* to) {
  if (dtype == DType::kF32) {
    const float value = (static_cast<float>(random >> 8) * 0x1p-24f - 0.5f) * 0.07f;
    std::memcpy(to, &value, sizeof(value));
    return;
  }
  // An exponent of 2^-6 or just below it, for the 8 or 5 bits that the type has.
  const uint32_t one = dtype == DType::kBF16 ? 0x3c00 : 0x2400;
  const uint16_t value = static_cast<uint16_t>(one | (random >> 16 & 0x80ff));
  std::memcpy(to, &value, sizeof(value));
}

}  // namespace

ModelSpec BenchSpec() {
  ModelSpec spec;
  spec.family = "qwen3";
  spec.architecture = "Qwen3ForCausalLM";
  spec.layers = 28;
  spec.dim = 1024;
  spec.q_heads = 16;
  spec.kv_heads = 8;
  spec.head_dim = 128;
  spec.ffn_dim = 3072;
  spec.vocab = 151936;
  spec.max_context = 40960;
  spec.norm_eps = 1e-6f;
  spec.rope.theta = 1e6;
  spec.qk_norm = true;
  spec.tied_embeddings = true;
  return spec;
}

BenchModel::BenchModel(DType dtype) : dtype_(dtype), ones_(8192, 1.0f) {
  const ModelSpec spec = BenchSpec();
  const size_t element = BytesFor(dtype, 1);
  pool_.resize(int64_t{spec.vocab} * spec.dim * element);
  uint32_t state = 1;
  for (size_t at = 0; at < pool_.size(); at += element) {
    state = state * 1664525 + 1013904223;
    PutRandom(dtype, state, pool_.data() + at);
  }
}

absl::StatusOr<WeightView> BenchModel::Find(absl::string_view name, int layer) const {
  const ModelSpec spec = BenchSpec();
  const WeightRule* rule = RuleOf(spec, name);
  if (rule == nullptr) return absl::NotFoundError(name);
  WeightView view{.name = std::string(name),
                  .dtype = dtype_,
                  .rows = ExtentOf(spec, rule->rows),
                  .cols = ExtentOf(spec, rule->cols)};
  if (view.rows == 1) {
    view.dtype = DType::kF32;
    view.data = reinterpret_cast<const uint8_t*>(ones_.data());
    view.bytes = view.cols * sizeof(float);
    return view;
  }
  view.bytes = view.rows * BytesFor(dtype_, view.cols);
  const size_t first_row = rule->per_layer() ? size_t{1024} * layer : 0;
  view.data = pool_.data() + first_row * BytesFor(dtype_, spec.dim);
  return view;
}

BenchWork WorkOf(const ModelSpec& spec, DType dtype, WeightScheme scheme) {
  BenchWork work;
  for (const WeightRule& rule : FamilyOf(spec).weights) {
    if (!HasWeight(spec, rule)) continue;
    const WeightView view{
        .dtype = dtype, .rows = ExtentOf(spec, rule.rows), .cols = ExtentOf(spec, rule.cols)};
    if (view.rows == 1) continue;
    const int count = rule.per_layer() ? spec.layers : 1;
    const DType kept = TypeUnder(scheme, rule.name, view);
    work.weight_bytes += 1.0 * count * view.rows * BytesFor(kept, view.cols);
    (rule.per_layer() ? work.layer_macs : work.head_macs) += 1.0 * count * view.rows * view.cols;
  }
  work.kv_bytes_per_token = 8.0 * spec.layers * spec.kv_heads * spec.head_dim;
  work.attention_macs_per_key = 2.0 * spec.layers * spec.q_heads * spec.head_dim;
  return work;
}

}  // namespace tandem
