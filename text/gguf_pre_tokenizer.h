#pragma once
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem {

// How byte-level BPE cuts text into words before merging, and what else goes with that name in
// tokenizer.ggml.pre.
struct GgufPreTokenizer {
  std::vector<absl::string_view> names;
  // Applied one after the other: matches become pieces, and so does what lies between them.
  std::vector<absl::string_view> patterns;
  bool ignore_merges = false;  // a word that is a token is taken whole
  bool add_bos = false;        // where the file does not say
  bool nfc = false;            // Unicode normalization comes first
};

const GgufPreTokenizer* FindGgufPreTokenizer(absl::string_view name);  // null: unknown
std::string GgufPreTokenizerNames();                                   // for an error message

}  // namespace tandem
