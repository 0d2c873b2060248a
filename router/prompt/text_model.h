#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tandem {

// What generation_config.json says of sampling; absent where it says nothing.
struct GenerationDefaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<uint32_t> top_k;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
};

// All that turns requests for one model into tokens, and tokens into text. Immutable, shared.
struct TextModel {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null: the model has none
  std::map<std::string, std::string> special_tokens;  // as chat templates see them: bos_token, ...
  GenerationDefaults defaults;
};

// A model's files by name, as workers hand them out: tokenizer.json (required),
// chat_template.jinja, generation_config.json, special_tokens.json.
using ModelFiles = std::map<std::string, std::shared_ptr<const std::string>>;

// Takes up to a second and 100 MB for a large vocabulary. `vocabulary` is the model's.
//   errors  InvalidArgument "FILE: what is wrong with it"; also when the tokenizer makes ids that
//           the model does not have
absl::StatusOr<std::shared_ptr<const TextModel>> LoadTextModel(const ModelFiles& files,
                                                               uint32_t vocabulary);

}  // namespace tandem
