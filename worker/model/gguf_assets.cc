#include <nlohmann/json.hpp>
#include <optional>

#include "base/status.h"
#include "base/utf8.h"
#include "text/gguf_vocab.h"
#include "worker/model/assets.h"

namespace tandem {
namespace {

using nlohmann::json;

absl::StatusOr<std::optional<int32_t>> IdAt(const GgufMetadata& metadata, absl::string_view key) {
  if (!metadata.Has(key)) return std::optional<int32_t>();
  ASSIGN_OR_RETURN(const int32_t id, metadata.Int(key));
  return std::optional<int32_t>(id);
}

absl::StatusOr<std::optional<bool>> FlagAt(const GgufMetadata& metadata, absl::string_view key) {
  if (!metadata.Has(key)) return std::optional<bool>();
  ASSIGN_OR_RETURN(const bool flag, metadata.BoolOr(key, false));
  return std::optional<bool>(flag);
}

absl::StatusOr<GgufVocab> ReadVocab(const GgufMetadata& metadata) {
  GgufVocab vocab;
  ASSIGN_OR_RETURN(const auto model, metadata.StringOr("tokenizer.ggml.model", ""));
  ASSIGN_OR_RETURN(const auto pre, metadata.StringOr("tokenizer.ggml.pre", ""));
  ASSIGN_OR_RETURN(vocab.tokens, metadata.Strings("tokenizer.ggml.tokens"));
  ASSIGN_OR_RETURN(const auto scores, metadata.Numbers("tokenizer.ggml.scores"));
  ASSIGN_OR_RETURN(const auto types, metadata.Ints("tokenizer.ggml.token_type"));
  ASSIGN_OR_RETURN(vocab.merges, metadata.Strings("tokenizer.ggml.merges"));
  ASSIGN_OR_RETURN(vocab.bos_id, IdAt(metadata, "tokenizer.ggml.bos_token_id"));
  ASSIGN_OR_RETURN(vocab.eos_id, IdAt(metadata, "tokenizer.ggml.eos_token_id"));
  ASSIGN_OR_RETURN(vocab.unk_id, IdAt(metadata, "tokenizer.ggml.unknown_token_id"));
  ASSIGN_OR_RETURN(vocab.add_bos, FlagAt(metadata, "tokenizer.ggml.add_bos_token"));
  ASSIGN_OR_RETURN(vocab.add_eos, FlagAt(metadata, "tokenizer.ggml.add_eos_token"));
  ASSIGN_OR_RETURN(vocab.add_space_prefix, FlagAt(metadata, "tokenizer.ggml.add_space_prefix"));
  vocab.model = std::string(model);
  vocab.pre = std::string(pre);
  for (const double score : scores) vocab.scores.push_back(static_cast<float>(score));
  for (const int64_t type : types) vocab.token_types.push_back(static_cast<int32_t>(type));
  return vocab;
}

// The template variables that name tokens.
absl::StatusOr<std::string> SpecialTokens(const GgufMetadata& metadata, const GgufVocab& vocab) {
  ASSIGN_OR_RETURN(const auto pad_id, IdAt(metadata, "tokenizer.ggml.padding_token_id"));
  const std::pair<const char*, std::optional<int32_t>> ids[] = {{"bos_token", vocab.bos_id},
                                                                {"eos_token", vocab.eos_id},
                                                                {"unk_token", vocab.unk_id},
                                                                {"pad_token", pad_id}};
  json tokens = json::object();
  for (const auto& [name, id] : ids) {
    if (id && *id < vocab.tokens.size()) tokens[name] = vocab.tokens[*id];
  }
  return tokens.dump();  // the conversion has checked that every token is UTF-8
}

}  // namespace

absl::StatusOr<ModelAssets> ReadGgufAssets(const GgufMetadata& metadata, const ModelSpec& spec) {
  ModelAssets assets;
  ASSIGN_OR_RETURN(const GgufVocab vocab, ReadVocab(metadata));
  RETURN_IF_ERROR(CheckTokenizerSize(vocab.tokens.size(), spec));
  assets.tokenizer_size = static_cast<int32_t>(vocab.tokens.size());
  ASSIGN_OR_RETURN(std::string tokenizer, TokenizerJsonFromGguf(vocab));
  assets.Add("tokenizer.json", std::move(tokenizer));
  ASSIGN_OR_RETURN(const auto chat, metadata.StringOr("tokenizer.chat_template", ""));
  RETURN_IF_ERROR(assets.AddTemplate(std::string(chat)));
  ASSIGN_OR_RETURN(std::string special, SpecialTokens(metadata, vocab));
  assets.Add("special_tokens.json", std::move(special));
  ASSIGN_OR_RETURN(const auto license, metadata.StringOr("general.license", ""));
  if (IsUtf8(license)) assets.license = std::string(license);
  return assets;
}

}  // namespace tandem
