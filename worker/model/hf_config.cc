#include "worker/model/hf_config.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/families.h"
#include "worker/model/json.h"

namespace tandem {
namespace {

using nlohmann::json;

constexpr JsonFields::Range kCount = {.min = 1};
constexpr JsonFields::Range kAboveZero = {.min = 1e-30};
constexpr JsonFields::Range kAny = {};

absl::StatusOr<std::string> ArchitectureOf(const JsonFields& config) {
  const json* names = config.Find("architectures");
  if (names == nullptr || !names->is_array() || names->empty() || !(*names)[0].is_string()) {
    return absl::InvalidArgumentError(
        "\"architectures\" must be a list that names the model's class");
  }
  return (*names)[0].get<std::string>();
}

// Refuses what changes the arithmetic and is not in ModelSpec.
absl::Status CheckSupported(const JsonFields& config) {
  ASSIGN_OR_RETURN(const std::string activation, config.StringOr("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return absl::UnimplementedError(
        absl::StrCat("\"hidden_act\" \"", activation, "\" is not supported; supported: silu"));
  }
  const json* quantization = config.Find("quantization_config");
  if (quantization != nullptr) {
    ASSIGN_OR_RETURN(const std::string method,
                     JsonFields(*quantization).StringOr("quant_method", "unnamed"));
    return absl::UnimplementedError(
        absl::StrCat("\"quantization_config\": weights quantised by \"", method,
                     "\" are not supported; use the float weights or a GGUF file"));
  }
  return absl::OkStatus();
}

absl::Status ReadLlama3(const JsonFields& scaling, RopeSpec& rope) {
  ASSIGN_OR_RETURN(rope.low_freq_factor, scaling.Number("low_freq_factor", kAboveZero));
  ASSIGN_OR_RETURN(rope.high_freq_factor, scaling.Number("high_freq_factor", kAboveZero));
  ASSIGN_OR_RETURN(rope.original_context, scaling.Int("original_max_position_embeddings", kCount));
  rope.scaling = RopeScaling::kLlama3;
  return absl::OkStatus();
}

// What yarn multiplies rotated q and k by, as transformers derives it.
absl::StatusOr<double> YarnMagnitude(const JsonFields& scaling, double factor) {
  ASSIGN_OR_RETURN(const double given, scaling.NumberOr("attention_factor", 0, kAny));
  if (given != 0) return given;
  ASSIGN_OR_RETURN(const double mscale, scaling.NumberOr("mscale", 0, kAny));
  ASSIGN_OR_RETURN(const double all_dim, scaling.NumberOr("mscale_all_dim", 0, kAny));
  const auto grown = [factor](double by) {
    return factor <= 1 ? 1 : 0.1 * by * std::log(factor) + 1;
  };
  return mscale != 0 && all_dim != 0 ? grown(mscale) / grown(all_dim) : grown(1);
}

absl::Status ReadYarn(const JsonFields& scaling, int32_t max_context, RopeSpec& rope) {
  ASSIGN_OR_RETURN(rope.original_context,
                   scaling.IntOr("original_max_position_embeddings", max_context, kCount));
  ASSIGN_OR_RETURN(rope.beta_fast, scaling.NumberOr("beta_fast", rope.beta_fast, kAboveZero));
  ASSIGN_OR_RETURN(rope.beta_slow, scaling.NumberOr("beta_slow", rope.beta_slow, kAboveZero));
  ASSIGN_OR_RETURN(rope.truncate, scaling.BoolOr("truncate", true));
  ASSIGN_OR_RETURN(rope.magnitude, YarnMagnitude(scaling, rope.factor));
  rope.scaling = RopeScaling::kYarn;
  return absl::OkStatus();
}

// `scaling` is "rope_scaling", or "rope_parameters" as newer files have it, which holds theta too.
absl::Status ReadScaling(const JsonFields& scaling, int32_t max_context, RopeSpec& rope) {
  ASSIGN_OR_RETURN(const std::string older, scaling.StringOr("type", "default"));
  ASSIGN_OR_RETURN(const std::string type, scaling.StringOr("rope_type", older));
  ASSIGN_OR_RETURN(const double partial, scaling.NumberOr("partial_rotary_factor", 1, kAny));
  if (partial != 1) {
    return absl::UnimplementedError("\"partial_rotary_factor\" other than 1 is not supported");
  }
  ASSIGN_OR_RETURN(rope.theta, scaling.NumberOr("rope_theta", rope.theta, kAboveZero));
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3" && type != "yarn") {
    return absl::UnimplementedError(absl::StrCat(
        "rope scaling \"", type, "\" is not supported; supported: default, linear, llama3, yarn"));
  }
  ASSIGN_OR_RETURN(rope.factor, scaling.Number("factor", kAboveZero));
  if (type == "llama3") return ReadLlama3(scaling, rope);
  if (type == "yarn") return ReadYarn(scaling, max_context, rope);
  rope.scaling = RopeScaling::kLinear;
  return absl::OkStatus();
}

absl::StatusOr<RopeSpec> ReadRope(const JsonFields& config, int32_t max_context) {
  RopeSpec rope;
  ASSIGN_OR_RETURN(rope.theta, config.NumberOr("rope_theta", rope.theta, kAboveZero));
  for (const absl::string_view key : {"rope_parameters", "rope_scaling"}) {
    const json* scaling = config.Find(key);
    if (scaling == nullptr) continue;
    if (!scaling->is_object()) {
      return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" must be an object"));
    }
    RETURN_IF_ERROR(Annotate(ReadScaling(JsonFields(*scaling), max_context, rope), key));
    break;
  }
  return rope;
}

// One id, a list of ids, or none. Negative ids mean none in old files.
absl::StatusOr<std::vector<int32_t>> ReadIds(const JsonFields& fields, absl::string_view key) {
  const json* found = fields.Find(key);
  if (found == nullptr) return std::vector<int32_t>{};
  const json list = found->is_array() ? *found : json::array({*found});
  std::vector<int32_t> ids;
  for (const json& id : list) {
    ASSIGN_OR_RETURN(const int32_t value, JsonFields(json{{"id", id}}).Int("id", kAny));
    if (value >= 0) ids.push_back(value);
  }
  return ids;
}

absl::Status ReadTokenIds(const JsonFields& config, absl::string_view generation_config,
                          ModelSpec& spec) {
  json generation = json::object();
  if (!generation_config.empty()) {
    ASSIGN_OR_RETURN(generation, ParseJson(generation_config));
  }
  ASSIGN_OR_RETURN(spec.eos_ids, ReadIds(JsonFields(generation), "eos_token_id"));
  if (spec.eos_ids.empty()) {
    ASSIGN_OR_RETURN(spec.eos_ids, ReadIds(config, "eos_token_id"));
  }
  ASSIGN_OR_RETURN(spec.bos_id, config.IntOr("bos_token_id", -1, kAny));
  ASSIGN_OR_RETURN(spec.pad_id, config.IntOr("pad_token_id", -1, kAny));
  const auto none_outside = [&](int32_t id) { return id >= 0 && id < spec.vocab ? id : -1; };
  spec.bos_id = none_outside(spec.bos_id);
  spec.pad_id = none_outside(spec.pad_id);
  return absl::OkStatus();
}

absl::Status ReadShape(const JsonFields& config, const Family& family, ModelSpec& spec) {
  ASSIGN_OR_RETURN(spec.layers, config.Int("num_hidden_layers", {.min = 1, .max = kLayersMax}));
  ASSIGN_OR_RETURN(spec.dim, config.Int("hidden_size", kCount));
  ASSIGN_OR_RETURN(spec.ffn_dim, config.Int("intermediate_size", kCount));
  ASSIGN_OR_RETURN(spec.vocab, config.Int("vocab_size", kCount));
  ASSIGN_OR_RETURN(spec.q_heads, config.Int("num_attention_heads", kCount));
  const auto default_or = [](int32_t value, int32_t other) { return value > 0 ? value : other; };
  ASSIGN_OR_RETURN(spec.kv_heads,
                   config.IntOr("num_key_value_heads",
                                default_or(family.kv_heads_default, spec.q_heads), kCount));
  ASSIGN_OR_RETURN(
      spec.head_dim,
      config.IntOr("head_dim", default_or(family.head_dim_default, spec.dim / spec.q_heads),
                   kCount));
  ASSIGN_OR_RETURN(spec.max_context,
                   config.IntOr("max_position_embeddings", family.max_context_default, kCount));
  return absl::OkStatus();
}

absl::Status ReadBiases(const JsonFields& config, const Family& family, ModelSpec& spec) {
  if (family.attention_bias == AttentionBias::kQkv) {
    spec.qkv_bias = true;
  } else {
    ASSIGN_OR_RETURN(spec.qkv_bias, config.BoolOr("attention_bias", false));
    spec.o_bias = spec.qkv_bias;
  }
  ASSIGN_OR_RETURN(spec.mlp_bias, config.BoolOr("mlp_bias", false));
  return absl::OkStatus();
}

// Which layers slide: as "layer_types" says or, where it is absent, those from "max_window_layers"
// on. "sliding_window" counts only where "use_sliding_window" is true. Empty: none does.
absl::StatusOr<std::vector<int32_t>> ReadWindows(const JsonFields& config, int32_t layers) {
  ASSIGN_OR_RETURN(const bool used, config.BoolOr("use_sliding_window", false));
  ASSIGN_OR_RETURN(const int32_t window, config.IntOr("sliding_window", 4096, kCount));
  ASSIGN_OR_RETURN(const int32_t first, config.IntOr("max_window_layers", 28, {.min = 0}));
  const json* types = config.Find("layer_types");
  std::vector<int32_t> windows(layers);
  if (types == nullptr) {
    if (!used || first >= layers) return std::vector<int32_t>{};
    std::fill(windows.begin() + first, windows.end(), window);
    return windows;
  }
  if (!types->is_array() || types->size() != layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"layer_types\" must be a list of ", layers, " names"));
  }
  for (int32_t i = 0; i < layers; ++i) {
    const std::string type = (*types)[i].is_string() ? (*types)[i].get<std::string>() : "";
    if (type == "full_attention") continue;
    if (type != "sliding_attention") {
      return absl::UnimplementedError(
          absl::StrCat("\"layer_types\"[", i, "] \"", type,
                       "\" is not supported; supported: full_attention, sliding_attention"));
    }
    if (!used) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"layer_types\"[", i, "] slides, and \"use_sliding_window\" is not true"));
    }
    windows[i] = window;
  }
  const bool slides = std::count(windows.begin(), windows.end(), 0) < layers;
  return slides ? windows : std::vector<int32_t>{};
}

}  // namespace

absl::StatusOr<ModelSpec> ParseHfConfig(absl::string_view config_text,
                                        absl::string_view generation_config) {
  ASSIGN_OR_RETURN(const json parsed, ParseJson(config_text));
  if (!parsed.is_object()) return absl::InvalidArgumentError("not a JSON object");
  const JsonFields config(parsed);
  ModelSpec spec;
  ASSIGN_OR_RETURN(spec.architecture, ArchitectureOf(config));
  ASSIGN_OR_RETURN(const Family* family, FamilyOfHf(spec.architecture));
  spec.family = std::string(family->name);
  RETURN_IF_ERROR(CheckSupported(config));
  RETURN_IF_ERROR(ReadShape(config, *family, spec));
  ASSIGN_OR_RETURN(const double eps, config.NumberOr("rms_norm_eps", 1e-6, kAny));
  spec.norm_eps = static_cast<float>(eps);
  ASSIGN_OR_RETURN(spec.rope, ReadRope(config, spec.max_context));
  spec.max_context = std::max(spec.max_context, ScaledContext(spec.rope));
  RETURN_IF_ERROR(ReadBiases(config, *family, spec));
  spec.qk_norm = family->qk_norm;
  if (family->windows) {
    ASSIGN_OR_RETURN(spec.windows, ReadWindows(config, spec.layers));
  }
  ASSIGN_OR_RETURN(spec.tied_embeddings, config.BoolOr("tie_word_embeddings", false));
  RETURN_IF_ERROR(ReadTokenIds(config, generation_config, spec));
  RETURN_IF_ERROR(CheckSpec(spec));
  return spec;
}

}  // namespace tandem
