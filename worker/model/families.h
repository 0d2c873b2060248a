#pragma once
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/model/spec.h"

namespace tandem {

inline constexpr int32_t kLayersMax = 1024;

// An extent of a weight, in terms of the spec.
enum class Extent : uint8_t { kOne, kVocab, kDim, kQ, kKv, kHead, kFfn };

// Which specs have a weight.
enum class Presence : uint8_t { kAlways, kQkvBias, kOBias, kQkNorm, kMlpBias, kUntied };

// Whether rotary embedding pairs a weight's outputs. GGUF files of some families store the rows i
// and i + head_dim / 2 of each head of such a weight side by side, because their readers rotate
// neighbours.
enum class Rotated : uint8_t { kNo, kYes };

// One weight of a family: Tandem's name for it, the files' names ("{}" is the layer), its shape.
struct WeightRule {
  absl::string_view name;
  absl::string_view hf;
  absl::string_view gguf;
  Extent rows;
  Extent cols;
  Presence presence = Presence::kAlways;
  Rotated rotated = Rotated::kNo;

  bool per_layer() const { return hf.find("{}") != absl::string_view::npos; }
};

// Which of q, k, v and o have biases.
enum class AttentionBias : uint8_t { kConfigured, kQkv };  // all or none, by the file; never o

struct Family {
  absl::string_view name;
  absl::string_view hf_architecture;    // config.json "architectures"
  absl::string_view gguf_architecture;  // general.architecture
  absl::Span<const WeightRule> weights;
  bool gguf_rope_pairs = false;  // how its GGUF files store rotated weights
  AttentionBias attention_bias = AttentionBias::kConfigured;
  bool qk_norm = false;
  bool windows = false;  // its config.json may ask for sliding windows
  // What stands for a member that config.json lacks; 0: hidden size / heads, and q_heads.
  int32_t head_dim_default = 0;
  int32_t kv_heads_default = 0;
  int32_t max_context_default = 0;
};

// Unimplemented for an architecture that no family has; the message lists those that are there.
absl::StatusOr<const Family*> FamilyOfHf(absl::string_view architecture);
absl::StatusOr<const Family*> FamilyOfGguf(absl::string_view architecture);

int64_t ExtentOf(const ModelSpec& spec, Extent extent);
bool HasWeight(const ModelSpec& spec, const WeightRule& rule);

// The context that yarn stretches the original one to, in tokens; 0 for other scalings.
int32_t ScaledContext(const RopeSpec& rope);

// Whether the spec's numbers are possible together; InvalidArgument names the first that is not.
absl::Status CheckSpec(const ModelSpec& spec);

}  // namespace tandem
