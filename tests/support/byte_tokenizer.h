#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

// A tokenizer whose ids are bytes, so that a test can write tokens as text.
namespace tandem {

inline constexpr int32_t kImStart = 256;          // <|im_start|>
inline constexpr int32_t kImEnd = 257;            // <|im_end|>
inline constexpr uint32_t kByteVocabulary = 264;  // padded, as real models' are

std::string ByteTokenizerJson();
// "<|im_start|>ROLE\nCONTENT<|im_end|>\n" a message.
std::string ByteChatTemplate();
// One token a byte.
std::vector<int32_t> Bytes(absl::string_view text);

}  // namespace tandem
