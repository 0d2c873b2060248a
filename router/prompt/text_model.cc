#include "router/prompt/text_model.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

using Json = nlohmann::json;

const std::string* Find(const ModelFiles& files, const std::string& name) {
  const auto found = files.find(name);
  return found == files.end() ? nullptr : found->second.get();
}

absl::StatusOr<Json> ParseObject(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("it is not a JSON object");
  return json;
}

// A number in [low, high]; absent when there is no such key or it is null.
absl::StatusOr<std::optional<double>> ReadNumber(const Json& json, const char* key, double low,
                                                 double high) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::nullopt;
  if (!found->is_number() || !(found->get<double>() >= low) || !(found->get<double>() <= high)) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": want a number from ", low, " to ", high));
  }
  return found->get<double>();
}

absl::StatusOr<GenerationDefaults> ReadDefaults(const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, ParseObject(text));
  GenerationDefaults out;
  ASSIGN_OR_RETURN(const auto temperature, ReadNumber(json, "temperature", 0, 100));
  ASSIGN_OR_RETURN(const auto top_p, ReadNumber(json, "top_p", 0, 1));
  ASSIGN_OR_RETURN(const auto top_k, ReadNumber(json, "top_k", 0, 1e9));
  ASSIGN_OR_RETURN(const auto min_p, ReadNumber(json, "min_p", 0, 1));
  ASSIGN_OR_RETURN(const auto repetition, ReadNumber(json, "repetition_penalty", 0, 10));
  if (temperature) out.temperature = static_cast<float>(*temperature);
  if (top_p && *top_p > 0) out.top_p = static_cast<float>(*top_p);
  if (top_k) out.top_k = static_cast<uint32_t>(*top_k);
  if (min_p) out.min_p = static_cast<float>(*min_p);
  if (repetition && *repetition > 0) out.repetition_penalty = static_cast<float>(*repetition);
  return out;
}

absl::StatusOr<std::map<std::string, std::string>> ReadSpecialTokens(const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, ParseObject(text));
  std::map<std::string, std::string> out;
  for (const auto& [name, token] : json.items()) {
    if (!token.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": want a string"));
    }
    out[name] = token.get<std::string>();
  }
  return out;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TextModel>> LoadTextModel(const ModelFiles& files,
                                                               uint32_t vocabulary) {
  auto model = std::make_shared<TextModel>();
  const std::string* tokenizer = Find(files, "tokenizer.json");
  if (tokenizer == nullptr) {
    return absl::InvalidArgumentError("tokenizer.json: the worker has none");
  }
  absl::StatusOr<std::shared_ptr<const Tokenizer>> loaded = Tokenizer::FromJson(*tokenizer);
  if (!loaded.ok()) return Annotate(loaded.status(), "tokenizer.json");
  model->tokenizer = *std::move(loaded);
  if (model->tokenizer->vocab_size() > static_cast<int64_t>(vocabulary)) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: it has ids up to ",
                                                   model->tokenizer->vocab_size() - 1,
                                                   ", the model a vocabulary of ", vocabulary));
  }
  if (const std::string* source = Find(files, "chat_template.jinja")) {
    auto compiled = ChatTemplate::Compile(*source);
    if (!compiled.ok()) return Annotate(compiled.status(), "chat_template.jinja");
    model->chat_template = *std::move(compiled);
  }
  if (const std::string* text = Find(files, "generation_config.json")) {
    auto defaults = ReadDefaults(*text);
    if (!defaults.ok()) return Annotate(defaults.status(), "generation_config.json");
    model->defaults = *std::move(defaults);
  }
  if (const std::string* text = Find(files, "special_tokens.json")) {
    auto tokens = ReadSpecialTokens(*text);
    if (!tokens.ok()) return Annotate(tokens.status(), "special_tokens.json");
    model->special_tokens = *std::move(tokens);
  }
  return model;
}

}  // namespace tandem
