#include "worker/service/outbox.h"

#include <iterator>
#include <utility>

#include "worker/service/messages.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr size_t kMessageBytes = 256 << 10;

size_t BytesOf(const std::vector<PositionLogprobs>& positions) {
  size_t entries = 0;
  for (const PositionLogprobs& position : positions) entries += 1 + position.top.size();
  return entries * 16;
}

size_t BytesOf(const SequenceOutput& output) {
  return 32 + output.token_ids.size() * 4 + BytesOf(output.logprobs) +
         BytesOf(output.prompt_logprobs) + output.error.message().size();
}

template <typename T>
void Append(std::vector<T>& from, std::vector<T>* to) {
  to->insert(to->end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

// Whether one message could not say which of the tokens have log-probabilities: a decode worker has
// none for the first token.
bool DifferInLogprobs(const SequenceOutput& a, const SequenceOutput& b) {
  return !a.token_ids.empty() && !b.token_ids.empty() && a.logprobs.empty() != b.logprobs.empty();
}

}  // namespace

// Adds `output` to what came last of the same one, when it goes straight on from there. The
// request's end may not come before what its other outputs said.
bool Outbox::Join(SequenceOutput& output) {
  const auto it = last_.find({output.handle, output.output_index});
  if (it == last_.end() || it->second < first_) return false;
  const bool for_all = output.handoff.has_value() || !output.error.ok();
  if (for_all && it->second + 1 != first_ + outputs_.size()) return false;
  SequenceOutput& before = outputs_[it->second - first_];
  if (before.attempt != output.attempt || before.finish || before.handoff || !before.error.ok() ||
      before.first_index + before.token_ids.size() != output.first_index ||
      DifferInLogprobs(before, output)) {
    return false;
  }
  Append(output.token_ids, &before.token_ids);
  Append(output.logprobs, &before.logprobs);
  Append(output.prompt_logprobs, &before.prompt_logprobs);
  before.finish = output.finish;
  before.handoff = output.handoff;
  before.error = std::move(output.error);
  return true;
}

void Outbox::Step(StepOutput output) {
  step_number_ = output.step_number;
  for (SequenceOutput& sequence : output.sequences) {
    bytes_ += BytesOf(sequence);
    if (Join(sequence)) continue;
    last_[{sequence.handle, sequence.output_index}] = first_ + outputs_.size();
    outputs_.push_back(std::move(sequence));
  }
}

wv1::SessionResponse Outbox::NextStep() {
  wv1::SessionResponse message;
  message.mutable_step()->set_step_number(step_number_);
  size_t bytes = 0;
  while (!outputs_.empty() && bytes < kMessageBytes) {
    bytes += BytesOf(outputs_.front());
    *message.mutable_step()->add_sequences() = ToProto(outputs_.front());
    outputs_.pop_front();
    ++first_;
  }
  if (outputs_.empty()) {
    last_.clear();
    bytes_ = 0;
  } else {
    bytes_ -= std::min(bytes, bytes_);
  }
  return message;
}

std::optional<wv1::SessionResponse> Outbox::Next() {
  wv1::SessionResponse message;
  if (!replies_.empty()) {
    message = std::move(replies_.front());
    replies_.pop_front();
  } else if (heartbeat_) {
    *message.mutable_heartbeat() = *std::exchange(heartbeat_, std::nullopt);
  } else if (load_) {
    *message.mutable_load() = *std::exchange(load_, std::nullopt);
  } else if (!outputs_.empty()) {
    return NextStep();
  } else {
    return std::nullopt;
  }
  return message;
}

}  // namespace tandem
