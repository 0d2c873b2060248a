#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem {

// The tokenizer.ggml.* metadata of a GGUF file. Absent keys stay empty.
//   life  the texts point into the file
struct GgufVocab {
  std::string model;                      // "gpt2" (byte-level BPE) or "llama" (SentencePiece)
  std::string pre;                        // which pre-tokenizer; only "gpt2" has one
  std::vector<absl::string_view> tokens;  // by id
  std::vector<float> scores;              // by id; "llama" only
  // By id: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. Empty: all normal.
  std::vector<int32_t> token_types;
  std::vector<absl::string_view> merges;  // "left right", the first to join first; "gpt2" only
  std::optional<int32_t> bos_id, eos_id, unk_id;
  std::optional<bool> add_bos, add_eos;  // default: what the kind of tokenizer does
  std::optional<bool> add_space_prefix;
};

// The same tokenizer as a tokenizer.json of Hugging Face, so that one implementation serves both.
//   errors  InvalidArgument, naming the key and the entry, for a vocabulary that contradicts
//           itself; Unimplemented, with the list of known ones, for another model or pre-tokenizer
absl::StatusOr<std::string> TokenizerJsonFromGguf(const GgufVocab& vocab);

}  // namespace tandem
