#include "worker/model/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/families.h"

namespace tandem {
namespace {

const TensorInfo* FindTensor(const Gguf& gguf, absl::string_view name) {
  const auto it = std::find_if(gguf.tensors.begin(), gguf.tensors.end(),
                               [&](const TensorInfo& tensor) { return tensor.name == name; });
  return it == gguf.tensors.end() ? nullptr : &*it;
}

// Keys of one architecture: "llama.block_count" is At("block_count").
struct Keys {
  absl::string_view architecture;
  std::string At(absl::string_view key) const { return absl::StrCat(architecture, ".", key); }
};

absl::StatusOr<int32_t> VocabOf(const Gguf& gguf, const Keys& keys) {
  if (gguf.metadata.Has(keys.At("vocab_size"))) return gguf.metadata.Int(keys.At("vocab_size"));
  ASSIGN_OR_RETURN(const auto tokens, gguf.metadata.Strings("tokenizer.ggml.tokens"));
  if (!tokens.empty()) return static_cast<int32_t>(tokens.size());
  return absl::InvalidArgumentError(
      absl::StrCat("metadata ", keys.At("vocab_size"), " and tokenizer.ggml.tokens are missing"));
}

absl::Status ReadShape(const Gguf& gguf, const Keys& keys, ModelSpec& spec) {
  const GgufMetadata& metadata = gguf.metadata;
  ASSIGN_OR_RETURN(spec.layers, metadata.Int(keys.At("block_count")));
  ASSIGN_OR_RETURN(spec.dim, metadata.Int(keys.At("embedding_length")));
  ASSIGN_OR_RETURN(spec.ffn_dim, metadata.Int(keys.At("feed_forward_length")));
  ASSIGN_OR_RETURN(spec.max_context, metadata.Int(keys.At("context_length")));
  ASSIGN_OR_RETURN(spec.q_heads, metadata.Int(keys.At("attention.head_count")));
  ASSIGN_OR_RETURN(spec.kv_heads, metadata.IntOr(keys.At("attention.head_count_kv"), spec.q_heads));
  if (spec.q_heads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("metadata ", keys.At("attention.head_count"), " is 0"));
  }
  ASSIGN_OR_RETURN(spec.head_dim,
                   metadata.IntOr(keys.At("attention.key_length"), spec.dim / spec.q_heads));
  ASSIGN_OR_RETURN(spec.vocab, VocabOf(gguf, keys));
  return absl::OkStatus();
}

// Refuses what changes the arithmetic and is not in ModelSpec.
absl::Status CheckSupported(const Gguf& gguf, const Keys& keys, const ModelSpec& spec) {
  const struct {
    absl::string_view key;
    int32_t only;
  } fixed[] = {{"rope.dimension_count", spec.head_dim},
               {"attention.value_length", spec.head_dim},
               {"attention.sliding_window", 0},
               {"expert_count", 0}};
  for (const auto& [key, only] : fixed) {
    ASSIGN_OR_RETURN(const int32_t found, gguf.metadata.IntOr(keys.At(key), only));
    if (found != only) {
      return absl::UnimplementedError(absl::StrCat("metadata ", keys.At(key), " = ", found,
                                                   " is not supported; supported: ", only));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> ReadDivisors(const TensorInfo& tensor) {
  if (tensor.dtype != DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", tensor.name, "\": want F32, file has ", tensor.type_name));
  }
  std::vector<float> divisors(tensor.bytes.size() / sizeof(float));
  std::memcpy(divisors.data(), tensor.bytes.data(), tensor.bytes.size());
  return divisors;
}

// As llama.cpp reads it: rotations grow with the factor, and two keys multiply that.
absl::Status ReadYarn(const Gguf& gguf, const Keys& keys, int32_t max_context, RopeSpec& rope) {
  const auto number = [&](absl::string_view key, double fallback) {
    return gguf.metadata.NumberOr(keys.At(key), fallback);
  };
  ASSIGN_OR_RETURN(rope.factor, number("rope.scaling.factor", 1));
  ASSIGN_OR_RETURN(
      rope.original_context,
      gguf.metadata.IntOr(keys.At("rope.scaling.original_context_length"), max_context));
  ASSIGN_OR_RETURN(rope.beta_fast, number("rope.scaling.yarn_beta_fast", rope.beta_fast));
  ASSIGN_OR_RETURN(rope.beta_slow, number("rope.scaling.yarn_beta_slow", rope.beta_slow));
  ASSIGN_OR_RETURN(const double multiplier, number("rope.scaling.attn_factor", 1));
  ASSIGN_OR_RETURN(const double yarn_multiplier, number("rope.scaling.yarn_attn_factor", 1));
  rope.magnitude =
      multiplier * yarn_multiplier * (rope.factor <= 1 ? 1 : 0.1 * std::log(rope.factor) + 1);
  rope.scaling = RopeScaling::kYarn;
  return absl::OkStatus();
}

absl::StatusOr<RopeSpec> ReadRope(const Gguf& gguf, const Keys& keys, int32_t max_context) {
  RopeSpec rope;
  ASSIGN_OR_RETURN(rope.theta, gguf.metadata.NumberOr(keys.At("rope.freq_base"), rope.theta));
  ASSIGN_OR_RETURN(const auto type, gguf.metadata.StringOr(keys.At("rope.scaling.type"), "none"));
  if (type != "none" && type != "linear" && type != "yarn") {
    return absl::UnimplementedError(
        absl::StrCat("metadata ", keys.At("rope.scaling.type"), " = \"", type,
                     "\" is not supported; supported: none, ",
                     "linear, yarn, and frequencies in rope_freqs.weight"));
  }
  ASSIGN_OR_RETURN(const double older, gguf.metadata.NumberOr(keys.At("rope.scale_linear"), 1));
  ASSIGN_OR_RETURN(const double factor,
                   gguf.metadata.NumberOr(keys.At("rope.scaling.factor"), older));
  if (type == "yarn") {
    RETURN_IF_ERROR(ReadYarn(gguf, keys, max_context, rope));
  } else if (type == "linear" || factor != 1) {
    rope.scaling = RopeScaling::kLinear;
    rope.factor = factor;
  }
  const TensorInfo* divisors = FindTensor(gguf, "rope_freqs.weight");
  if (divisors == nullptr) return rope;
  if (rope.scaling != RopeScaling::kNone) {
    return absl::UnimplementedError(
        absl::StrCat("rope scaling \"", type, "\" together with rope_freqs.weight"));
  }
  rope.scaling = RopeScaling::kDivisors;
  ASSIGN_OR_RETURN(rope.divisors, ReadDivisors(*divisors));
  return rope;
}

absl::Status ReadTokenIds(const GgufMetadata& metadata, ModelSpec& spec) {
  const auto id_or_none = [&](absl::string_view key) -> absl::StatusOr<int32_t> {
    ASSIGN_OR_RETURN(const int32_t id, metadata.IntOr(key, spec.vocab));
    return id < spec.vocab ? id : -1;
  };
  ASSIGN_OR_RETURN(spec.bos_id, id_or_none("tokenizer.ggml.bos_token_id"));
  ASSIGN_OR_RETURN(spec.pad_id, id_or_none("tokenizer.ggml.padding_token_id"));
  for (const absl::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                      "tokenizer.ggml.eom_token_id"}) {
    ASSIGN_OR_RETURN(const int32_t id, id_or_none(key));
    const bool known = std::count(spec.eos_ids.begin(), spec.eos_ids.end(), id) > 0;
    if (id >= 0 && !known) spec.eos_ids.push_back(id);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelSpec> ParseGgufConfig(const Gguf& gguf) {
  ModelSpec spec;
  ASSIGN_OR_RETURN(const absl::string_view architecture,
                   gguf.metadata.StringOr("general.architecture", ""));
  ASSIGN_OR_RETURN(const Family* family, FamilyOfGguf(architecture));
  spec.family = std::string(family->name);
  spec.architecture = std::string(architecture);
  const Keys keys = {architecture};
  RETURN_IF_ERROR(ReadShape(gguf, keys, spec));
  RETURN_IF_ERROR(CheckSupported(gguf, keys, spec));
  const std::string eps_key = keys.At("attention.layer_norm_rms_epsilon");
  if (!gguf.metadata.Has(eps_key)) {
    return absl::InvalidArgumentError(absl::StrCat("metadata ", eps_key, " is missing"));
  }
  ASSIGN_OR_RETURN(const double eps, gguf.metadata.NumberOr(eps_key, 0));
  spec.norm_eps = static_cast<float>(eps);
  ASSIGN_OR_RETURN(spec.rope, ReadRope(gguf, keys, spec.max_context));
  spec.max_context = std::max(spec.max_context, ScaledContext(spec.rope));
  spec.qkv_bias = family->attention_bias == AttentionBias::kQkv ||
                  FindTensor(gguf, "blk.0.attn_q.bias") != nullptr;
  spec.o_bias = FindTensor(gguf, "blk.0.attn_output.bias") != nullptr;
  spec.qk_norm = family->qk_norm;
  spec.mlp_bias = FindTensor(gguf, "blk.0.ffn_gate.bias") != nullptr;
  spec.tied_embeddings = FindTensor(gguf, "output.weight") == nullptr;
  RETURN_IF_ERROR(ReadTokenIds(gguf.metadata, spec));
  RETURN_IF_ERROR(CheckSpec(spec));
  return spec;
}

}  // namespace tandem
