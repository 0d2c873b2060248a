#include "router/prompt/deltas.h"

#include <utility>

#include "base/status.h"

namespace tandem {

absl::StatusOr<Deltas> Deltas::Create(const TextModel& model, Options options) {
  ASSIGN_OR_RETURN(Detokenizer detokenizer,
                   Detokenizer::Create(*model.tokenizer, {.skip_special = options.skip_special,
                                                          .text_start = false}));
  ASSIGN_OR_RETURN(
      StopMatcher matcher,
      StopMatcher::Create({.stops = options.stops, .include_stop = options.include_stop}));
  return Deltas(std::move(options), std::move(detokenizer), std::move(matcher));
}

std::string Deltas::Match(absl::string_view piece) {
  return pushed_ <= options_.min_tokens ? std::string(piece) : matcher_.Push(piece);
}

absl::StatusOr<std::string> Deltas::Push(int32_t token) {
  if (Idle()) return std::string();
  ASSIGN_OR_RETURN(const std::string piece, detokenizer_.Push(token));
  ++pushed_;
  std::string text = Match(piece);
  return options_.no_text ? std::string() : text;
}

absl::StatusOr<std::string> Deltas::Finish() {
  if (Idle()) return std::string();
  ASSIGN_OR_RETURN(const std::string rest, detokenizer_.Finish());
  std::string text = Match(rest);
  text += matcher_.Finish();
  return options_.no_text ? std::string() : text;
}

std::optional<std::string> Deltas::matched() const {
  if (!matcher_.matched()) return std::nullopt;
  return options_.stops[*matcher_.matched()];
}

}  // namespace tandem
