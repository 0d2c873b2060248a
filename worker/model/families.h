#pragma once
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/model/spec.h"

namespace tandem {

// An extent of a weight, in terms of the spec.
enum class Extent : uint8_t { kOne, kVocab, kDim, kQ, kKv, kFfn };

// Which specs have a weight.
enum class Presence : uint8_t { kAlways, kAttentionBias, kMlpBias, kUntied };

// How GGUF files order the rows: kRopePairs stores rows i and i + head_dim / 2 of each head side
// by side, because its reader rotates neighbours.
enum class GgufRows : uint8_t { kSame, kRopePairs };

// One weight of a family: Tandem's name for it, the files' names ("{}" is the layer), its shape.
struct WeightRule {
  absl::string_view name;
  absl::string_view hf;
  absl::string_view gguf;
  Extent rows;
  Extent cols;
  Presence presence = Presence::kAlways;
  GgufRows gguf_rows = GgufRows::kSame;

  bool per_layer() const { return hf.find("{}") != absl::string_view::npos; }
};

struct Family {
  absl::string_view name;
  absl::string_view hf_architecture;    // config.json "architectures"
  absl::string_view gguf_architecture;  // general.architecture
  absl::Span<const WeightRule> weights;
};

// Unimplemented for an architecture that no family has; the message lists those that are there.
absl::StatusOr<const Family*> FamilyOfHf(absl::string_view architecture);
absl::StatusOr<const Family*> FamilyOfGguf(absl::string_view architecture);

int64_t ExtentOf(const ModelSpec& spec, Extent extent);
bool HasWeight(const ModelSpec& spec, const WeightRule& rule);

// Whether the spec's numbers are possible together; InvalidArgument names the first that is not.
absl::Status CheckSpec(const ModelSpec& spec);

}  // namespace tandem
