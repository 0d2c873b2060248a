#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/model/gguf.h"
#include "worker/model/spec.h"

namespace tandem {

// One file that a router needs of a model beside its weights.
struct Asset {
  std::string name;
  std::string digest;  // hex SHA-256 of data
  std::string data;
};

// Assets by name; all but LICENSE are UTF-8, and those that a model lacks are absent:
//   tokenizer.json          the tokenizer, in the Hugging Face format for GGUF files too
//   chat_template.jinja     the default chat template
//   generation_config.json  the sampling defaults of the model's authors
//   special_tokens.json     template variables: bos_token, eos_token, ...
//   LICENSE                 the licence's text
struct ModelAssets {
  std::vector<Asset> assets;
  std::string license;         // SPDX id where the model states one, else ""
  int32_t tokenizer_size = 0;  // 1 + the highest token id

  const Asset* Find(absl::string_view name) const;  // null: the model has none
  void Add(absl::string_view name, std::string data);
  absl::Status AddTemplate(std::string text);  // "" adds nothing
};

// InvalidArgument unless the model's embedding has a row for each of `tokens` tokens.
absl::Status CheckTokenizerSize(int64_t tokens, const ModelSpec& spec);

// Errors name the file, or the metadata key.
absl::StatusOr<ModelAssets> ReadHfAssets(const std::string& folder, const ModelSpec& spec);
absl::StatusOr<ModelAssets> ReadGgufAssets(const GgufMetadata& metadata, const ModelSpec& spec);

}  // namespace tandem
