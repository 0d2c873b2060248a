#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "text/tokenizer.h"

struct tt_stream;

namespace tandem {

// Turns the token ids of one sequence into text as they come. All texts it returns, joined, equal
// Tokenizer::Decode of all ids with the same options.
//   units   text is whole UTF-8 code points; the bytes of an unfinished one wait for the next id,
//           and an impossible sequence becomes U+FFFD
//   life    Push* -> Finish. It may outlive the tokenizer
//   errors  an id that no token has adds nothing; only a bug in the crate is an error (Internal)
//   threads one at a time; Push costs the bytes of the token
class Detokenizer {
 public:
  static absl::StatusOr<Detokenizer> Create(const Tokenizer& tokenizer, DecodeOptions options);

  absl::StatusOr<std::string> Push(int32_t id);
  absl::StatusOr<std::string> Finish();  // what still waits, as U+FFFD; often nothing

 private:
  struct Free {
    void operator()(tt_stream* stream) const;
  };
  explicit Detokenizer(tt_stream* stream) : stream_(stream) {}

  std::unique_ptr<tt_stream, Free> stream_;
};

}  // namespace tandem
