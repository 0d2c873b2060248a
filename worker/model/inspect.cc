#include "worker/model/inspect.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace tandem {
namespace {

// "98.3 MB", with decimal units as disks and files are sold.
std::string Size(uint64_t bytes) {
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  const char* const units[] = {"kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes) / 1000;
  int unit = 0;
  for (; value >= 1000 && unit < 3; ++unit) value /= 1000;
  return absl::StrFormat("%.1f %s", value, units[unit]);
}

std::string FitLine(const Inspection& seen) {
  if (seen.memory_bytes == 0) return "";
  if (!seen.fits) {
    return absl::StrCat("fits           no: the weights and one token of KV need ",
                        Size(seen.total_weight_bytes + seen.kv_bytes_per_token), ", of ",
                        Size(seen.memory_bytes), "\n");
  }
  return absl::StrCat("fits           yes: beside the weights, ", Size(seen.memory_bytes),
                      " hold the KV of ", seen.tokens_that_fit, " tokens\n");
}

// "16 heads of 128 over 8 of keys and values, normed; 2 of 28 layers see 4096 tokens".
std::string Attention(const ModelSpec& spec) {
  std::string text = absl::StrCat(spec.q_heads, " heads of ", spec.head_dim, " over ",
                                  spec.kv_heads, " of keys and values");
  if (spec.qk_norm) text += ", normed";
  if (spec.qkv_bias) text += spec.o_bias ? ", with biases" : ", with biases of q, k and v";
  const auto sliding = spec.layers - std::count(spec.windows.begin(), spec.windows.end(), 0);
  if (spec.windows.empty() || sliding == 0) return text;
  const int32_t window = *std::max_element(spec.windows.begin(), spec.windows.end());
  return absl::StrCat(text, "; ", sliding, " of ", spec.layers, " layers see ", window, " tokens");
}

std::string Rope(const RopeSpec& rope) {
  const std::string theta = absl::StrCat("theta ", rope.theta);
  switch (rope.scaling) {
    case RopeScaling::kNone:
      return theta;
    case RopeScaling::kLinear:
      return absl::StrCat(theta, ", linear x ", rope.factor);
    case RopeScaling::kLlama3:
      return absl::StrCat(theta, ", llama3 x ", rope.factor, " of ", rope.original_context);
    case RopeScaling::kYarn:
      return absl::StrCat(theta, ", yarn x ", rope.factor, " of ", rope.original_context);
    case RopeScaling::kDivisors:
      return absl::StrCat(theta, ", divided as the file says");
  }
  return theta;
}

// "BPE", "Unigram", ...: model.type in tokenizer.json.
std::string TokenizerKind(const ModelAssets& assets) {
  const Asset* tokenizer = assets.Find("tokenizer.json");
  if (tokenizer == nullptr) return "";
  const auto json = nlohmann::json::parse(tokenizer->data, nullptr, /*allow_exceptions=*/false);
  const nlohmann::json::json_pointer kind("/model/type");
  if (!json.is_object() || !json.contains(kind) || !json[kind].is_string()) return "unknown";
  return json[kind].get<std::string>();
}

std::string TokenizerLine(const Inspection& seen) {
  if (seen.tokenizer.empty()) return "tokenizer      none\n";
  return absl::StrCat("tokenizer      ", seen.tokenizer, " of ", seen.tokenizer_size, " tokens, ",
                      seen.chat_template ? "with" : "without", " a chat template\n");
}

std::string LicenseLine(const Inspection& seen) {
  return absl::StrCat("license        ", seen.license.empty() ? "not stated" : seen.license,
                      seen.license_text ? ", with its text" : "", "\n");
}

}  // namespace

Inspection Inspect(const ModelFiles& files, const InspectOptions& options) {
  const ModelSpec& spec = files.spec();
  Inspection seen = {.path = files.path(),
                     .format = files.format() == ModelFormat::kGguf ? "gguf" : "safetensors",
                     .family = spec.family,
                     .architecture = spec.architecture,
                     .attention = Attention(spec),
                     .rope = Rope(spec.rope),
                     .license = files.assets().license,
                     .tokenizer = TokenizerKind(files.assets()),
                     .tokenizer_size = files.assets().tokenizer_size,
                     .chat_template = files.assets().Find("chat_template.jinja") != nullptr,
                     .license_text = files.assets().Find("LICENSE") != nullptr,
                     .vocab = spec.vocab,
                     .max_context = spec.max_context,
                     .memory_bytes = options.memory_bytes};
  for (const NamedWeight& weight : files.weights()) {
    seen.parameters += weight.view.rows * weight.view.cols;
    seen.weight_bytes[std::string(NameOf(weight.view.dtype))] += weight.view.bytes;
    seen.total_weight_bytes += weight.view.bytes;
  }
  seen.kv_bytes_per_token =
      uint64_t{2} * spec.layers * spec.kv_heads * spec.head_dim * options.kv_element_bytes;
  if (options.memory_bytes > seen.total_weight_bytes) {
    seen.tokens_that_fit = static_cast<int64_t>((options.memory_bytes - seen.total_weight_bytes) /
                                                seen.kv_bytes_per_token);
  }
  seen.fits = seen.tokens_that_fit > 0;
  return seen;
}

std::string InspectionText(const Inspection& seen) {
  const std::string types =
      absl::StrJoin(seen.weight_bytes, ", ", [](std::string* out, const auto& entry) {
        absl::StrAppend(out, entry.first, " ", Size(entry.second));
      });
  return absl::StrCat(
      seen.path, "\n", "is             ", seen.architecture, " (", seen.family, ", ", seen.format,
      ")\n", "attention      ", seen.attention, "\n", "rope           ", seen.rope, "\n",
      "parameters     ", absl::StrFormat("%.1f", static_cast<double>(seen.parameters) / 1e6),
      " million\n", "weights        ", Size(seen.total_weight_bytes), ": ", types, "\n",
      "KV per token   ", seen.kv_bytes_per_token, " B\n", "context        ", seen.max_context,
      " tokens: ", Size(seen.kv_bytes_per_token * seen.max_context), " of KV\n", "vocabulary     ",
      seen.vocab, "\n", TokenizerLine(seen), LicenseLine(seen), FitLine(seen));
}

std::string InspectionJson(const Inspection& seen) {
  nlohmann::json json = {{"path", seen.path},
                         {"format", seen.format},
                         {"family", seen.family},
                         {"architecture", seen.architecture},
                         {"attention", seen.attention},
                         {"rope", seen.rope},
                         {"license", seen.license},
                         {"license_text", seen.license_text},
                         {"tokenizer", seen.tokenizer},
                         {"tokenizer_size", seen.tokenizer_size},
                         {"chat_template", seen.chat_template},
                         {"parameters", seen.parameters},
                         {"weight_bytes", seen.total_weight_bytes},
                         {"weight_bytes_by_type", seen.weight_bytes},
                         {"kv_bytes_per_token", seen.kv_bytes_per_token},
                         {"vocabulary", seen.vocab},
                         {"max_context", seen.max_context}};
  if (seen.memory_bytes > 0) {
    json["memory_bytes"] = seen.memory_bytes;
    json["fits"] = seen.fits;
    json["tokens_that_fit"] = seen.tokens_that_fit;
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace tandem
