#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem {

// A vocabulary for guided requests on small models: id 0 ends an output, and each other id is a
// letter.
inline constexpr int32_t kEndId = 0;
inline constexpr absl::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789{}[]\":,.- _";

inline std::string LettersTokenizerJson() {
  nlohmann::json vocab = {{"<end>", kEndId}};
  for (size_t i = 0; i < kLetters.size(); ++i) vocab[std::string(1, kLetters[i])] = i + 1;
  const nlohmann::json end = {
      {"id", kEndId},    {"content", "<end>"}, {"special", true},     {"single_word", false},
      {"lstrip", false}, {"rstrip", false},    {"normalized", false},
  };
  return nlohmann::json{{"added_tokens", {end}},
                        {"model", {{"type", "WordLevel"}, {"unk_token", "_"}, {"vocab", vocab}}}}
      .dump();
}

// The same, for pools that do not copy it.
inline const std::string& LettersTokenizer() {
  static const auto* const json = new std::string(LettersTokenizerJson());
  return *json;
}

}  // namespace tandem
