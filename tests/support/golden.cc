#include "tests/support/golden.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/json.h"
#include "worker/model/mapped_file.h"

namespace tandem {
namespace {

using nlohmann::json;

constexpr size_t kBytesMax = 64 << 20;
constexpr absl::string_view kFolder = TANDEM_SOURCE_DIR "/tests/golden";

constexpr GoldenMutant kMutants[] = {
    {"gqa", "rope theta doubled", [](ModelSpec& spec) { spec.rope.theta *= 2; }},
    {"gqa", "lm_head taken for tied", [](ModelSpec& spec) { spec.tied_embeddings = true; }},
    {"biases", "q, k and v bias ignored", [](ModelSpec& spec) { spec.qkv_bias = false; }},
    {"biases", "o bias ignored", [](ModelSpec& spec) { spec.o_bias = false; }},
    {"biases", "MLP bias ignored", [](ModelSpec& spec) { spec.mlp_bias = false; }},
    {"llama3", "scaling ignored", [](ModelSpec& spec) { spec.rope.scaling = RopeScaling::kNone; }},
    {"llama3", "scaling taken for linear",
     [](ModelSpec& spec) { spec.rope.scaling = RopeScaling::kLinear; }},
    {"llama3", "factor halved", [](ModelSpec& spec) { spec.rope.factor /= 2; }},
    {"llama3", "low_freq_factor doubled", [](ModelSpec& spec) { spec.rope.low_freq_factor *= 2; }},
    {"llama3", "high_freq_factor doubled",
     [](ModelSpec& spec) { spec.rope.high_freq_factor *= 2; }},
    {"llama3", "original context doubled",
     [](ModelSpec& spec) { spec.rope.original_context *= 2; }},
    {"linear", "scaling ignored", [](ModelSpec& spec) { spec.rope.scaling = RopeScaling::kNone; }},
    {"linear", "factor 2 for 2.5", [](ModelSpec& spec) { spec.rope.factor = 2; }},
    {"eps", "the usual epsilon", [](ModelSpec& spec) { spec.norm_eps = 1e-5f; }},
    {"theta", "the usual theta", [](ModelSpec& spec) { spec.rope.theta = 10000; }},
    {"gguf_f32", "q, k and v bias ignored", [](ModelSpec& spec) { spec.qkv_bias = false; }},
    {"gguf_f32", "o bias ignored", [](ModelSpec& spec) { spec.o_bias = false; }},
    {"gguf_f16", "rope_freqs.weight ignored",
     [](ModelSpec& spec) { spec.rope.scaling = RopeScaling::kNone; }},
    {"gguf_bf16", "scaling ignored",
     [](ModelSpec& spec) { spec.rope.scaling = RopeScaling::kNone; }},
    {"qwen2", "bias ignored", [](ModelSpec& spec) { spec.qkv_bias = false; }},
    {"qwen2_yarn", "scaling ignored",
     [](ModelSpec& spec) { spec.rope.scaling = RopeScaling::kNone; }},
    {"qwen2_yarn", "factor halved", [](ModelSpec& spec) { spec.rope.factor /= 2; }},
    {"qwen2_yarn", "original context halved",
     [](ModelSpec& spec) { spec.rope.original_context /= 2; }},
    {"qwen2_yarn", "beta_fast halved", [](ModelSpec& spec) { spec.rope.beta_fast /= 2; }},
    {"qwen2_yarn", "beta_slow doubled", [](ModelSpec& spec) { spec.rope.beta_slow *= 2; }},
    {"qwen2_yarn", "magnitude ignored", [](ModelSpec& spec) { spec.rope.magnitude = 1; }},
    {"qwen2_yarn", "not truncated", [](ModelSpec& spec) { spec.rope.truncate = false; }},
    {"qwen2_window", "ignored", [](ModelSpec& spec) { spec.windows.clear(); }},
    {"qwen2_window", "a token more", [](ModelSpec& spec) { spec.windows[2] += 1; }},
    {"qwen2_window", "in one layer less", [](ModelSpec& spec) { spec.windows[1] = 0; }},
    {"qwen2_window", "in the first layer too", [](ModelSpec& spec) { spec.windows[0] = 7; }},
    {"qwen2_layers", "in the full layer too", [](ModelSpec& spec) { spec.windows[1] = 20; }},
    {"qwen2_layers", "not in the first layer", [](ModelSpec& spec) { spec.windows[0] = 0; }},
    {"gguf_qwen2", "scaling ignored",
     [](ModelSpec& spec) { spec.rope.scaling = RopeScaling::kNone; }},
    {"gguf_qwen2", "magnitude ignored", [](ModelSpec& spec) { spec.rope.magnitude = 1; }},
    {"gguf_qwen2", "bias ignored", [](ModelSpec& spec) { spec.qkv_bias = false; }},
    {"qwen3", "norms of heads ignored", [](ModelSpec& spec) { spec.qk_norm = false; }},
    {"qwen3_biases", "q, k and v bias ignored", [](ModelSpec& spec) { spec.qkv_bias = false; }},
    {"qwen3_biases", "o bias ignored", [](ModelSpec& spec) { spec.o_bias = false; }},
    {"qwen3_eps", "the usual epsilon", [](ModelSpec& spec) { spec.norm_eps = 1e-6f; }},
    {"qwen3_window", "a token less", [](ModelSpec& spec) { spec.windows[1] -= 1; }},
    {"qwen3_yarn", "the factor that follows from mscale",
     [](ModelSpec& spec) { spec.rope.magnitude = 0.885; }},
    {"qwen3_mscale", "mscale ignored", [](ModelSpec& spec) { spec.rope.magnitude = 1.1386; }},
    {"qwen3_mscale", "truncated", [](ModelSpec& spec) { spec.rope.truncate = true; }},
    {"gguf_qwen3", "norms of heads ignored", [](ModelSpec& spec) { spec.qk_norm = false; }},
};

constexpr absl::string_view kFamilyFolders[] = {"llama", "qwen2", "qwen3"};

absl::StatusOr<json> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFileUpTo(path, kBytesMax));
  absl::StatusOr<json> parsed = ParseJson(text);
  if (!parsed.ok()) return Annotate(parsed.status(), path);
  return parsed;
}

absl::StatusOr<std::vector<float>> ReadFloats(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFileUpTo(path, kBytesMax));
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

// A list of numbers; empty when it is not there.
template <typename T>
std::vector<T> Numbers(const json& object, absl::string_view key) {
  std::vector<T> values;
  const json* list = JsonFields(object).Find(key);
  if (list == nullptr) return values;
  for (const json& value : *list) values.push_back(value.is_number() ? value.get<T>() : T{});
  return values;
}

// Takes numbers from the front of a file.
class FloatReader {
 public:
  explicit FloatReader(absl::Span<const float> values) : values_(values) {}
  std::vector<float> Take(size_t count) {
    const absl::Span<const float> taken = values_.subspan(0, count);
    values_.remove_prefix(taken.size());
    return {taken.begin(), taken.end()};
  }
  size_t left() const { return values_.size(); }

 private:
  absl::Span<const float> values_;
};

OraclePrompt ReadPrompt(const json& facts, size_t subset, FloatReader& reader) {
  OraclePrompt prompt = {.about = facts.value("about", ""),
                         .ids = Numbers<int32_t>(facts, "ids"),
                         .greedy = Numbers<int32_t>(facts, "greedy"),
                         .gaps = Numbers<float>(facts, "gaps")};
  const std::vector<int32_t> positions = Numbers<int32_t>(facts, "positions");
  for (size_t i = 0; i < positions.size() && reader.left() > 2; ++i) {
    OraclePosition& at = prompt.positions.emplace_back();
    at.position = positions[i];
    for (const json& id : facts["top"][i]) at.top_ids.push_back(id.get<int32_t>());
    at.magnitude = reader.Take(1)[0];
    at.logsumexp = reader.Take(1)[0];
    at.top_logits = reader.Take(at.top_ids.size());
    at.subset_logits = reader.Take(subset);
  }
  return prompt;
}

}  // namespace

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  std::error_code error;
  for (const absl::string_view family : kFamilyFolders) {
    const std::string folder = absl::StrCat(kFolder, "/", family);
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<Golden> ReadGolden(absl::string_view name) {
  std::string folder;
  for (const absl::string_view family : kFamilyFolders) {
    folder = absl::StrCat(kFolder, "/", family, "/", name);
    if (std::filesystem::exists(folder)) break;
  }
  const std::string gguf = absl::StrCat(folder, "/model.gguf");
  ASSIGN_OR_RETURN(const json facts, ReadJson(absl::StrCat(folder, "/expected.json")));
  Golden golden;
  golden.model = std::filesystem::exists(gguf) ? gguf : folder;
  golden.vocab = facts.value("vocab", 0);
  golden.prompt = Numbers<int32_t>(facts, "prompt");
  golden.greedy = Numbers<int32_t>(facts, "greedy");
  golden.gaps = Numbers<float>(facts, "gaps");
  ASSIGN_OR_RETURN(golden.logits, ReadFloats(absl::StrCat(folder, "/logits.f32")));
  if (golden.prompt.empty() || golden.logits.size() != golden.prompt.size() * golden.vocab) {
    return absl::DataLossError(absl::StrCat(folder, ": logits.f32 does not fit expected.json"));
  }
  return golden;
}

absl::Span<const GoldenMutant> GoldenMutants() { return kMutants; }

double RelativeError(absl::Span<const float> got, absl::Span<const float> want) {
  double difference = 0, magnitude = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (i >= got.size() || !std::isfinite(got[i])) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::abs(double{got[i]} - double{want[i]}));
    magnitude = std::max(magnitude, std::abs(double{want[i]}));
  }
  return difference / magnitude;
}

absl::StatusOr<Oracle> ReadOracle() {
  const std::string folder = absl::StrCat(kFolder, "/smollm2");
  ASSIGN_OR_RETURN(const json facts, ReadJson(absl::StrCat(folder, "/oracle.json")));
  ASSIGN_OR_RETURN(const std::vector<float> values,
                   ReadFloats(absl::StrCat(folder, "/oracle.f32")));
  Oracle oracle;
  oracle.model = absl::StrCat(CacheFolder(), "/", facts.value("file", ""));
  oracle.subset = Numbers<int32_t>(facts, "subset");
  FloatReader reader(values);
  for (const json& prompt : facts["prompts"]) {
    oracle.prompts.push_back(ReadPrompt(prompt, oracle.subset.size(), reader));
  }
  if (reader.left() != 0) {
    return absl::DataLossError(absl::StrCat(folder, ": oracle.f32 does not fit oracle.json"));
  }
  return oracle;
}

}  // namespace tandem
