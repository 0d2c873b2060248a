#pragma once
#include <memory>
#include <string>

#include "router/prompt/text_model.h"
#include "tests/support/byte_tokenizer.h"

namespace tandem {

// The byte tokenizer as a router has it; loaded once.
inline std::shared_ptr<const TextModel> ByteText() {
  static const auto* const text = new std::shared_ptr<const TextModel>(*LoadTextModel(
      {{"tokenizer.json", std::make_shared<std::string>(ByteTokenizerJson())}}, kByteVocabulary));
  return *text;
}

}  // namespace tandem
