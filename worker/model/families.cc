#include "worker/model/families.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace tandem {
namespace {

// clang-format off
constexpr WeightRule kWeights[] = {
    {"embed",      "model.embed_tokens.weight",                      "token_embd.weight",         Extent::kVocab, Extent::kDim},
    {"attn_norm",  "model.layers.{}.input_layernorm.weight",         "blk.{}.attn_norm.weight",   Extent::kOne,   Extent::kDim},
    {"q",          "model.layers.{}.self_attn.q_proj.weight",        "blk.{}.attn_q.weight",      Extent::kQ,     Extent::kDim, Presence::kAlways,  Rotated::kYes},
    {"k",          "model.layers.{}.self_attn.k_proj.weight",        "blk.{}.attn_k.weight",      Extent::kKv,    Extent::kDim, Presence::kAlways,  Rotated::kYes},
    {"v",          "model.layers.{}.self_attn.v_proj.weight",        "blk.{}.attn_v.weight",      Extent::kKv,    Extent::kDim},
    {"o",          "model.layers.{}.self_attn.o_proj.weight",        "blk.{}.attn_output.weight", Extent::kDim,   Extent::kQ},
    {"q_bias",     "model.layers.{}.self_attn.q_proj.bias",          "blk.{}.attn_q.bias",        Extent::kOne,   Extent::kQ,   Presence::kQkvBias, Rotated::kYes},
    {"k_bias",     "model.layers.{}.self_attn.k_proj.bias",          "blk.{}.attn_k.bias",        Extent::kOne,   Extent::kKv,  Presence::kQkvBias, Rotated::kYes},
    {"v_bias",     "model.layers.{}.self_attn.v_proj.bias",          "blk.{}.attn_v.bias",        Extent::kOne,   Extent::kKv,  Presence::kQkvBias},
    {"o_bias",     "model.layers.{}.self_attn.o_proj.bias",          "blk.{}.attn_output.bias",   Extent::kOne,   Extent::kDim, Presence::kOBias},
    {"q_norm",     "model.layers.{}.self_attn.q_norm.weight",        "blk.{}.attn_q_norm.weight", Extent::kOne,   Extent::kHead, Presence::kQkNorm},
    {"k_norm",     "model.layers.{}.self_attn.k_norm.weight",        "blk.{}.attn_k_norm.weight", Extent::kOne,   Extent::kHead, Presence::kQkNorm},
    {"ffn_norm",   "model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight",   Extent::kOne,   Extent::kDim},
    {"gate",       "model.layers.{}.mlp.gate_proj.weight",           "blk.{}.ffn_gate.weight",    Extent::kFfn,   Extent::kDim},
    {"up",         "model.layers.{}.mlp.up_proj.weight",             "blk.{}.ffn_up.weight",      Extent::kFfn,   Extent::kDim},
    {"down",       "model.layers.{}.mlp.down_proj.weight",           "blk.{}.ffn_down.weight",    Extent::kDim,   Extent::kFfn},
    {"gate_bias",  "model.layers.{}.mlp.gate_proj.bias",             "blk.{}.ffn_gate.bias",      Extent::kOne,   Extent::kFfn, Presence::kMlpBias},
    {"up_bias",    "model.layers.{}.mlp.up_proj.bias",               "blk.{}.ffn_up.bias",        Extent::kOne,   Extent::kFfn, Presence::kMlpBias},
    {"down_bias",  "model.layers.{}.mlp.down_proj.bias",             "blk.{}.ffn_down.bias",      Extent::kOne,   Extent::kDim, Presence::kMlpBias},
    {"final_norm", "model.norm.weight",                              "output_norm.weight",        Extent::kOne,   Extent::kDim},
    {"lm_head",    "lm_head.weight",                                 "output.weight",             Extent::kVocab, Extent::kDim, Presence::kUntied},
};
// clang-format on

constexpr Family kFamilies[] = {
    {.name = "llama",
     .hf_architecture = "LlamaForCausalLM",
     .gguf_architecture = "llama",
     .weights = kWeights,
     .gguf_rope_pairs = true,
     .max_context_default = 2048},
    {.name = "qwen2",
     .hf_architecture = "Qwen2ForCausalLM",
     .gguf_architecture = "qwen2",
     .weights = kWeights,
     .attention_bias = AttentionBias::kQkv,
     .windows = true,
     .kv_heads_default = 32,
     .max_context_default = 32768},
    {.name = "qwen3",
     .hf_architecture = "Qwen3ForCausalLM",
     .gguf_architecture = "qwen3",
     .weights = kWeights,
     .qk_norm = true,
     .windows = true,
     .head_dim_default = 128,
     .kv_heads_default = 32,
     .max_context_default = 32768},
};

absl::StatusOr<const Family*> Find(absl::string_view architecture,
                                   absl::string_view Family::* column) {
  for (const Family& family : kFamilies) {
    if (family.*column == architecture) return &family;
  }
  const std::string supported = absl::StrJoin(
      kFamilies, ", ",
      [&](std::string* out, const Family& family) { absl::StrAppend(out, family.*column); });
  return absl::UnimplementedError(
      absl::StrCat("architecture \"", architecture, "\" is not supported; supported: ", supported));
}

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": want a number in [1, ", max, "], found ", value));
}

// The largest angle is that of the last position at the highest frequency: theta^0 = 1 divided by
// what the scaling divides by, where it divides that one at all.
absl::Status CheckAngles(const RopeSpec& rope, int32_t max_context) {
  constexpr double kMaxAngle = 1 << 20;  // worker/backend/cpu/rope_table.h
  double divisor = 1;
  if (rope.scaling != RopeScaling::kNone && rope.scaling != RopeScaling::kDivisors) {
    divisor = std::min(1.0, rope.factor);
  }
  for (const float one : rope.divisors) divisor = std::min(divisor, double{one});
  const double frequency = std::max(1.0, 1 / rope.theta) / divisor;
  if ((max_context - 1.0) * frequency < kMaxAngle) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("rope: the last of ", max_context, " positions at a frequency of ", frequency,
                   " is an angle above ", kMaxAngle, ", beyond what is exact"));
}

absl::Status CheckRope(const RopeSpec& rope, int32_t head_dim) {
  const double positive[] = {
      rope.theta,     rope.factor,    rope.low_freq_factor, rope.high_freq_factor,
      rope.beta_fast, rope.beta_slow, rope.magnitude};
  for (const double value : positive) {
    if (std::isfinite(value) && value > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("rope: theta and the factors must be above 0, found ", value));
  }
  if (rope.scaling == RopeScaling::kLlama3 &&
      (rope.original_context < 1 || rope.high_freq_factor <= rope.low_freq_factor)) {
    return absl::InvalidArgumentError(
        "rope: llama3 scaling needs original_max_position_embeddings >= 1 and "
        "high_freq_factor > low_freq_factor");
  }
  if (rope.scaling == RopeScaling::kYarn &&
      (rope.original_context < 1 || rope.theta <= 1 || rope.beta_fast < rope.beta_slow)) {
    return absl::InvalidArgumentError(
        "rope: yarn scaling needs original_max_position_embeddings >= 1, a theta above 1 and "
        "beta_fast >= beta_slow");
  }
  if (rope.scaling != RopeScaling::kDivisors) return absl::OkStatus();
  if (rope.divisors.size() * 2 != head_dim) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope: want ", head_dim / 2, " divisors, found ", rope.divisors.size()));
  }
  for (const float divisor : rope.divisors) {
    if (!std::isfinite(divisor) || divisor <= 0) {
      return absl::InvalidArgumentError(absl::StrCat("rope: a divisor of ", divisor));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<const Family*> FamilyOfHf(absl::string_view architecture) {
  return Find(architecture, &Family::hf_architecture);
}

absl::StatusOr<const Family*> FamilyOfGguf(absl::string_view architecture) {
  return Find(architecture, &Family::gguf_architecture);
}

int64_t ExtentOf(const ModelSpec& spec, Extent extent) {
  switch (extent) {
    case Extent::kOne:
      return 1;
    case Extent::kVocab:
      return spec.vocab;
    case Extent::kDim:
      return spec.dim;
    case Extent::kQ:
      return int64_t{spec.q_heads} * spec.head_dim;
    case Extent::kKv:
      return int64_t{spec.kv_heads} * spec.head_dim;
    case Extent::kHead:
      return spec.head_dim;
    case Extent::kFfn:
      return spec.ffn_dim;
  }
  return 0;
}

bool HasWeight(const ModelSpec& spec, const WeightRule& rule) {
  switch (rule.presence) {
    case Presence::kAlways:
      return true;
    case Presence::kQkvBias:
      return spec.qkv_bias;
    case Presence::kOBias:
      return spec.o_bias;
    case Presence::kQkNorm:
      return spec.qk_norm;
    case Presence::kMlpBias:
      return spec.mlp_bias;
    case Presence::kUntied:
      return !spec.tied_embeddings;
  }
  return false;
}

int32_t ScaledContext(const RopeSpec& rope) {
  if (rope.scaling != RopeScaling::kYarn) return 0;
  const double stretched = rope.factor * rope.original_context;
  return stretched >= 1 && stretched <= 0x1p30 ? static_cast<int32_t>(stretched) : 0;
}

absl::Status CheckSpec(const ModelSpec& spec) {
  RETURN_IF_ERROR(CheckRange("layers", spec.layers, kLayersMax));
  RETURN_IF_ERROR(CheckRange("hidden size", spec.dim, 1 << 20));
  RETURN_IF_ERROR(CheckRange("attention heads", spec.q_heads, 4096));
  RETURN_IF_ERROR(CheckRange("key/value heads", spec.kv_heads, spec.q_heads));
  RETURN_IF_ERROR(CheckRange("head size", spec.head_dim, 4096));
  RETURN_IF_ERROR(CheckRange("MLP size", spec.ffn_dim, 1 << 22));
  RETURN_IF_ERROR(CheckRange("vocabulary", spec.vocab, 1 << 24));
  RETURN_IF_ERROR(CheckRange("context", spec.max_context, 1 << 30));
  if (spec.q_heads % spec.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(spec.q_heads, " attention heads can't share ",
                                                   spec.kv_heads, " key/value heads evenly"));
  }
  if (spec.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head size ", spec.head_dim, " is odd; rotary embedding pairs dimensions"));
  }
  if (!std::isfinite(spec.norm_eps) || spec.norm_eps < 0 || spec.norm_eps > 1) {
    return absl::InvalidArgumentError(absl::StrCat("norm epsilon ", spec.norm_eps));
  }
  if (!spec.windows.empty() && spec.windows.size() != spec.layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("sliding windows of ", spec.windows.size(), " layers, want ", spec.layers));
  }
  for (const int32_t window : spec.windows) {
    if (window < 0) return absl::InvalidArgumentError(absl::StrCat("a sliding window of ", window));
  }
  for (const int32_t id : spec.eos_ids) {
    if (id < 0 || id >= spec.vocab) {
      return absl::InvalidArgumentError(
          absl::StrCat("end-of-text token ", id, " is outside the vocabulary of ", spec.vocab));
    }
  }
  RETURN_IF_ERROR(CheckRope(spec.rope, spec.head_dim));
  return CheckAngles(spec.rope, spec.max_context);
}

}  // namespace tandem
