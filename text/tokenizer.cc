#include "text/tokenizer.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "text/rust.h"

namespace tandem {

using text_internal::Data;
using text_internal::FromRust;
using text_internal::RustBytes;
using text_internal::RustIds;

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(absl::string_view json) {
  tt_tokenizer* handle = nullptr;
  RustBytes error;
  RETURN_IF_ERROR(
      Annotate(FromRust(tt_tokenizer_load(Data(json), json.size(), &handle, error.out()), error),
               "tokenizer.json"));
  return std::shared_ptr<const Tokenizer>(new Tokenizer(handle));
}

Tokenizer::Tokenizer(tt_tokenizer* handle)
    : handle_(handle), vocab_size_(static_cast<int32_t>(tt_tokenizer_vocab_size(handle))) {}

Tokenizer::~Tokenizer() { tt_tokenizer_free(handle_); }

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(absl::string_view text,
                                                       EncodeOptions options) const {
  return EncodeWith(text, {}, options);
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodePrompt(const RenderedPrompt& prompt) const {
  return EncodeWith(prompt.text, prompt.barriers, {.add_special = false, .parse_special = true});
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeWith(absl::string_view text,
                                                           absl::Span<const uint32_t> barriers,
                                                           EncodeOptions options) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the text has ", text.size(), " bytes; at most ",
                                                   kMaxTextBytes, " can be tokenized"));
  }
  RustIds ids;
  RustBytes error;
  RETURN_IF_ERROR(Annotate(
      FromRust(
          tt_tokenizer_encode(handle_, Data(text), text.size(), barriers.data(), barriers.size(),
                              options.add_special, options.parse_special, ids.out(), error.out()),
          error),
      "tokenize"));
  return ids.Copy<int32_t>();
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> ids,
                                              DecodeOptions options) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size_) {
      return absl::InvalidArgumentError(absl::StrCat("token_ids[", i, "] is ", ids[i],
                                                     "; the vocabulary has ", vocab_size_, " ids"));
    }
  }
  RustBytes text;
  RustBytes error;
  RETURN_IF_ERROR(Annotate(
      FromRust(
          tt_tokenizer_decode(handle_, reinterpret_cast<const uint32_t*>(ids.data()), ids.size(),
                              options.skip_special, options.text_start, text.out(), error.out()),
          error),
      "detokenize"));
  return std::string(text.view());
}

std::optional<int32_t> Tokenizer::TokenToId(absl::string_view token) const {
  uint32_t id = 0;
  if (tt_tokenizer_token_to_id(handle_, Data(token), token.size(), &id) == 0) return std::nullopt;
  return static_cast<int32_t>(id);
}

absl::string_view Tokenizer::IdToBytes(int32_t id) const {
  const uint8_t* bytes = nullptr;
  size_t size = 0;
  tt_tokenizer_token(handle_, static_cast<uint32_t>(id), &bytes, &size);
  return absl::string_view(reinterpret_cast<const char*>(bytes), size);
}

TokenKind Tokenizer::Kind(int32_t id) const {
  const uint8_t* bytes = nullptr;
  size_t size = 0;
  switch (tt_tokenizer_token(handle_, static_cast<uint32_t>(id), &bytes, &size)) {
    case TT_NORMAL:
      return TokenKind::kNormal;
    case TT_ADDED:
      return TokenKind::kAdded;
    case TT_SPECIAL:
      return TokenKind::kSpecial;
    default:
      return TokenKind::kHole;
  }
}

}  // namespace tandem
