#include "text/grammar.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "text/rust.h"

namespace tandem {

using text_internal::Data;
using text_internal::FromRust;
using text_internal::RustBytes;

namespace {

int32_t ToRust(GrammarSource::Kind kind) {
  switch (kind) {
    case GrammarSource::Kind::kJsonSchema:
      return TT_JSON_SCHEMA;
    case GrammarSource::Kind::kRegex:
      return TT_REGEX;
    case GrammarSource::Kind::kLark:
      return TT_LARK;
    case GrammarSource::Kind::kChoice:
      return TT_CHOICE;
  }
  return -1;
}

std::string TextOf(const GrammarSource& source) {
  if (source.kind != GrammarSource::Kind::kChoice) return source.text;
  // Bytes that aren't UTF-8 become U+FFFD: what a model can write is UTF-8.
  return nlohmann::json(source.choices)
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Grammar::~Grammar() { tt_grammar_free(handle_); }

GrammarEnvironment::~GrammarEnvironment() { tt_environment_free(handle_); }

absl::StatusOr<std::shared_ptr<const GrammarEnvironment>> GrammarEnvironment::Create(
    const Tokenizer& tokenizer, int32_t logits) {
  if (logits < 1) return absl::InvalidArgumentError("a model without logits follows no grammar");
  tt_environment* handle = nullptr;
  RustBytes error;
  RETURN_IF_ERROR(
      Annotate(FromRust(tt_environment_new(tokenizer.handle(), static_cast<uint32_t>(logits),
                                           &handle, error.out()),
                        error),
               "tokenizer"));
  const size_t mask_words = (static_cast<size_t>(logits) + 31) / 32;
  return std::shared_ptr<const GrammarEnvironment>(new GrammarEnvironment(handle, mask_words));
}

absl::StatusOr<std::shared_ptr<const Grammar>> GrammarEnvironment::Compile(
    const GrammarSource& source) const {
  const bool choice = source.kind == GrammarSource::Kind::kChoice;
  if (choice && source.choices.empty()) {
    return absl::InvalidArgumentError("there is nothing to choose from");
  }
  const std::string text = TextOf(source);
  if (text.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the grammar has ", text.size(), " bytes; at most ", kMaxSourceBytes, " can be compiled"));
  }
  tt_grammar* handle = nullptr;
  RustBytes error;
  RETURN_IF_ERROR(FromRust(tt_grammar_compile(handle_, ToRust(source.kind), Data(text), text.size(),
                                              &handle, error.out()),
                           error));
  return std::make_shared<const Grammar>(handle, mask_words_);
}

absl::StatusOr<std::unique_ptr<GrammarMatcher>> GrammarMatcher::Create(
    std::shared_ptr<const Grammar> grammar) {
  tt_matcher* handle = nullptr;
  RustBytes error;
  RETURN_IF_ERROR(FromRust(tt_matcher_new(grammar->handle(), &handle, error.out()), error));
  return std::unique_ptr<GrammarMatcher>(new GrammarMatcher(std::move(grammar), handle));
}

GrammarMatcher::~GrammarMatcher() { tt_matcher_free(handle_); }

absl::StatusOr<std::unique_ptr<GrammarMatcher>> GrammarMatcher::Fork() const {
  tt_matcher* handle = nullptr;
  RustBytes error;
  RETURN_IF_ERROR(FromRust(tt_matcher_fork(handle_, &handle, error.out()), error));
  return std::unique_ptr<GrammarMatcher>(new GrammarMatcher(grammar_, handle));
}

absl::StatusOr<bool> GrammarMatcher::ComputeMask(absl::Span<uint32_t> mask) {
  int32_t may_end = 0;
  RustBytes error;
  RETURN_IF_ERROR(
      FromRust(tt_matcher_mask(handle_, mask.data(), mask.size(), &may_end, error.out()), error));
  return may_end != 0;
}

absl::StatusOr<bool> GrammarMatcher::Consume(absl::Span<const int32_t> tokens) {
  int32_t finished = 0;
  RustBytes error;
  RETURN_IF_ERROR(
      FromRust(tt_matcher_consume(handle_, reinterpret_cast<const uint32_t*>(tokens.data()),
                                  tokens.size(), &finished, error.out()),
               error));
  return finished != 0;
}

}  // namespace tandem
