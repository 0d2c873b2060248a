#include "router/api/token_line.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;
namespace iv1 = inference::v1;

bool Same(const wv1::SequenceFinish& a, const wv1::SequenceFinish& b) {
  return a.reason() == b.reason() && a.has_stop_token_id() == b.has_stop_token_id() &&
         a.stop_token_id() == b.stop_token_id();
}

}  // namespace

absl::Status TokenLine::Add(const wv1::SequenceStep& step) {
  const uint64_t end = uint64_t{step.first_index()} + step.token_ids_size();
  if (end > max_tokens_) {
    return absl::InternalError(absl::StrCat("a worker reported tokens up to index ", end,
                                            " of an output of at most ", max_tokens_));
  }
  if (step.logprobs_size() != 0 && step.logprobs_size() != step.token_ids_size()) {
    return absl::InternalError(absl::StrCat("a worker reported ", step.logprobs_size(),
                                            " log-probabilities for ", step.token_ids_size(),
                                            " tokens"));
  }
  for (int i = 0; i < step.token_ids_size(); ++i) {
    RETURN_IF_ERROR(AddToken(step.first_index() + i, step.token_ids(i),
                             step.logprobs_size() == 0 ? nullptr : &step.logprobs(i)));
  }
  if (step.has_finish()) return AddFinish(static_cast<uint32_t>(end), step.finish());
  return absl::OkStatus();
}

absl::Status TokenLine::AddToken(uint32_t index, int32_t id,
                                 const iv1::PositionLogprobs* logprobs) {
  if (id < 0 || (end_ && index >= *end_)) {
    return absl::InternalError(
        absl::StrCat("a worker reported an impossible token at index ", index));
  }
  if (index >= slots_.size()) slots_.resize(index + 1);
  Slot& slot = slots_[index];
  if (slot.id >= 0 && slot.id != id) {
    return absl::InternalError(absl::StrCat("two reports of output index ", index, " differ"));
  }
  slot.id = id;
  if (want_logprobs_ && logprobs != nullptr && index >= forwarded_ && slot.logprobs == nullptr) {
    slot.logprobs = std::make_unique<iv1::PositionLogprobs>(*logprobs);
  }
  return absl::OkStatus();
}

absl::Status TokenLine::AddFinish(uint32_t end, const wv1::SequenceFinish& finish) {
  if ((end_ && (*end_ != end || !Same(finish_, finish))) || slots_.size() > end) {
    return absl::InternalError(absl::StrCat("two reports of the output's end differ: at ", end,
                                            " and at ", end_.value_or(slots_.size())));
  }
  end_ = end;
  finish_ = finish;
  return absl::OkStatus();
}

std::optional<TokenLine::Token> TokenLine::Next() {
  if (forwarded_ >= slots_.size()) return std::nullopt;
  Slot& slot = slots_[forwarded_];
  if (slot.id < 0 || (want_logprobs_ && slot.logprobs == nullptr)) return std::nullopt;
  ++forwarded_;
  return Token{slot.id, std::move(slot.logprobs), end_ && forwarded_ == *end_};
}

void TokenLine::Forget() {
  slots_.resize(forwarded_);
  end_.reset();
}

std::vector<int32_t> TokenLine::ForwardedIds() const {
  std::vector<int32_t> ids;
  ids.reserve(forwarded_);
  for (uint32_t i = 0; i < forwarded_; ++i) ids.push_back(slots_[i].id);
  return ids;
}

}  // namespace tandem
