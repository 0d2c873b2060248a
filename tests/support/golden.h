#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/model/spec.h"

// Reads what tests/golden/make.py wrote; tests/golden/README.md describes the files.
namespace tandem {

// What transformers computes with one tiny model.
struct Golden {
  std::string model;  // path for ModelFiles::Open
  int32_t vocab = 0;
  std::vector<int32_t> prompt;  // [positions]
  std::vector<float> logits;    // [positions, vocab]
  std::vector<int32_t> greedy;  // what follows the prompt
  std::vector<float> gaps;      // [greedy.size()], the highest logit less the second

  absl::Span<const float> LogitsAt(size_t position) const {
    return absl::MakeConstSpan(logits).subspan(position * vocab, vocab);
  }
};

// The names of all tiny models, such as "gqa" and "gguf_q4_1".
std::vector<std::string> GoldenNames();
absl::StatusOr<Golden> ReadGolden(absl::string_view name);

// A wrong reading of one configuration option: with the changed spec the logits of that golden's
// prompt must be off by far more than the tolerance.
struct GoldenMutant {
  absl::string_view golden;
  absl::string_view name;
  void (*apply)(ModelSpec& spec);
};
absl::Span<const GoldenMutant> GoldenMutants();

// max |got - want| / max |want|; infinite when a number of `got` is not finite.
double RelativeError(absl::Span<const float> got, absl::Span<const float> want);

// What transformers computes with the default model at one position of a prompt.
struct OraclePosition {
  int32_t position = 0;
  float magnitude = 0;               // max |logit| over the vocabulary
  float logsumexp = 0;               // over the vocabulary
  std::vector<int32_t> top_ids;      // the 64 highest, descending
  std::vector<float> top_logits;     // [top_ids.size()]
  std::vector<float> subset_logits;  // [Oracle::subset.size()]
};

struct OraclePrompt {
  std::string about;  // what the prompt is, for messages
  std::vector<int32_t> ids;
  std::vector<OraclePosition> positions;  // ascending; the last is ids.size() - 1
  std::vector<int32_t> greedy;
  std::vector<float> gaps;
};

struct Oracle {
  std::string model;            // path for ModelFiles::Open; in the user's cache
  std::vector<int32_t> subset;  // token ids whose logits every position has
  std::vector<OraclePrompt> prompts;
};

absl::StatusOr<Oracle> ReadOracle();

}  // namespace tandem
