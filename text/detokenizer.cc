#include "text/detokenizer.h"

#include "base/status.h"
#include "text/rust.h"

namespace tandem {
namespace {

absl::StatusOr<std::string> ToText(tt_status status, const uint8_t* text, size_t size) {
  if (status != TT_OK) return absl::InternalError("detokenize: the text crate failed");
  return std::string(reinterpret_cast<const char*>(text), size);
}

}  // namespace

void Detokenizer::Free::operator()(tt_stream* stream) const { tt_stream_free(stream); }

absl::StatusOr<Detokenizer> Detokenizer::Create(const Tokenizer& tokenizer, DecodeOptions options) {
  tt_stream* stream = nullptr;
  text_internal::RustBytes error;
  RETURN_IF_ERROR(
      Annotate(text_internal::FromRust(tt_stream_new(tokenizer.handle(), options.skip_special,
                                                     options.text_start, &stream, error.out()),
                                       error),
               "detokenize"));
  return Detokenizer(stream);
}

absl::StatusOr<std::string> Detokenizer::Push(int32_t id) {
  const uint8_t* text = nullptr;
  size_t size = 0;
  const tt_status status = tt_stream_push(stream_.get(), static_cast<uint32_t>(id), &text, &size);
  return ToText(status, text, size);
}

absl::StatusOr<std::string> Detokenizer::Finish() {
  const uint8_t* text = nullptr;
  size_t size = 0;
  const tt_status status = tt_stream_finish(stream_.get(), &text, &size);
  return ToText(status, text, size);
}

}  // namespace tandem
