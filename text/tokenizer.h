#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct tt_tokenizer;

namespace tandem {

// A prompt that a chat template wrote (text/chat_template.h).
struct RenderedPrompt {
  std::string text;
  // Ascending byte offsets in `text`. No special token is read across one of them: they lie inside
  // the stretches of a caller's text that look like one.
  std::vector<uint32_t> barriers;
};

struct EncodeOptions {
  bool add_special = false;    // put BOS, EOS, ... round the text, as the tokenizer asks for
  bool parse_special = false;  // read special tokens in the text as such; else they are spelt out
};

struct DecodeOptions {
  bool skip_special = true;  // leave special tokens out of the text
  // The ids begin a text: the blank that some tokenizers put first is dropped. False for ids that
  // go on after a prompt.
  bool text_start = true;
};

enum class TokenKind {
  kNormal,
  kAdded,    // beside the model's vocabulary, and shown: <think>, runs of blanks
  kSpecial,  // BOS, EOS, <|im_end|>: left out of text by skip_special
  kHole,     // no token has this id
};

// One tokenizer.json of Hugging Face, byte for byte what `tokenizers` itself does.
//   units   ids in [0, vocab_size()), offsets and lengths of text in bytes
//   life    immutable, shared; costs 50 to 100 MB for a vocabulary of 150,000
//   errors  InvalidArgument: text that isn't UTF-8 or is longer than kMaxTextBytes, an id out of
//           range, a JSON that `tokenizers` refuses or whose decoder can't be streamed
//   threads all methods may run at once. Encode takes about 0.3 s a MB: keep it off event loops
class Tokenizer {
 public:
  static constexpr size_t kMaxTextBytes = 8 << 20;

  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromJson(absl::string_view json);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text, EncodeOptions options) const;
  // Special tokens of the template are read as such, those in a caller's text are spelt out. The
  // template writes BOS itself, so none is added.
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(const RenderedPrompt& prompt) const;
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids, DecodeOptions options) const;

  int32_t vocab_size() const { return vocab_size_; }  // the largest id plus one: holes count
  std::optional<int32_t> TokenToId(absl::string_view token) const;
  // What `id` adds to a text, not always whole code points; empty for a hole. Lives as long as the
  // tokenizer.
  absl::string_view IdToBytes(int32_t id) const;
  TokenKind Kind(int32_t id) const;
  bool IsSpecial(int32_t id) const { return Kind(id) == TokenKind::kSpecial; }

  const tt_tokenizer* handle() const { return handle_; }  // for the wrappers in this folder

 private:
  explicit Tokenizer(tt_tokenizer* handle);
  absl::StatusOr<std::vector<int32_t>> EncodeWith(absl::string_view text,
                                                  absl::Span<const uint32_t> barriers,
                                                  EncodeOptions options) const;

  tt_tokenizer* const handle_;
  const int32_t vocab_size_;
};

}  // namespace tandem
