// How sequences are reported and end, and their handoffs.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "worker/engine/core.h"

namespace tandem {

SequenceOutput& EngineCore::Report(const Sequence& sequence, uint32_t output_index) {
  std::vector<SequenceOutput>& out = sessions_[sequence.session()].output.sequences;
  SequenceOutput& report = out.emplace_back();
  report.handle = sequence.request().handle;
  report.attempt = sequence.request().attempt;
  report.output_index = output_index;
  report.first_index = sequence.produced();
  return report;
}

void EngineCore::ReportToken(Sequence& sequence, int32_t token,
                             std::optional<PositionLogprobs> logprobs,
                             std::optional<SequenceFinish> finish) {
  SequenceOutput& report = Report(sequence, sequence.output_index());
  report.first_index = sequence.produced() - 1;
  report.token_ids.push_back(token);
  if (logprobs) report.logprobs.push_back(*std::move(logprobs));
  report.prompt_logprobs = std::move(sequence.prompt_logprobs);
  sequence.prompt_logprobs.clear();
  if (report.first_index == 0 && sequence.output_index() == 0) {
    report.cached_tokens = sequence.cached_tokens;
  }
  report.finish = finish;
}

// Of all outputs that it stands for and whose end is not told yet.
void EngineCore::TellFinish(const Sequence& sequence, FinishReason reason) {
  for (const uint32_t output : sequence.outputs()) {
    if (sequence.told_end(output)) continue;
    SequenceOutput& report = Report(sequence, output);
    if (!sequence.request().resume.empty()) {
      report.first_index = static_cast<uint32_t>(sequence.Resumed(output).size());
    }
    report.finish = SequenceFinish{reason, std::nullopt};
  }
}

void EngineCore::EndCancelled(Sequence& sequence) {
  if (sequence.told_all_ends()) {  // the outputs are complete: only the handoff is dropped
    Report(sequence, 0).handoff = HandoffSent{};
  } else {
    TellFinish(sequence, FinishReason::kCancelled);
  }
  AbandonHandoff(sequence, "it was cancelled");
  Retire(sequence, SequenceEnd::kCancelled);
}

void EngineCore::EndTimeLimit(Sequence& sequence) {
  TellFinish(sequence, FinishReason::kTimeLimit);
  AbandonHandoff(sequence, "its time limit passed");
  Retire(sequence, SequenceEnd::kTimeLimit);
}

void EngineCore::EndWithError(Sequence& sequence, const absl::Status& status) {
  if (sequence.told_all_ends()) {
    Report(sequence, 0).handoff = HandoffSent{};
  } else {
    Report(sequence, sequence.output_index()).error = status;
  }
  for (Sequence* output : Find(sequence.session(), sequence.request().handle)) {
    AbandonHandoff(*output, status.message());
    Retire(*output, SequenceEnd::kError);
  }
}

void EngineCore::AbandonHandoff(Sequence& sequence, absl::string_view why) {
  const bool announced = sequence.awaits_handoff() && sequence.state() == SequenceState::kWaiting;
  if (announced || (sequence.open_handoffs > 0 && sequence.request().role == Role::kDecode)) {
    parts_.receiver->Cancel(sequence.handoff_key(), why);
  } else if (sequence.open_handoffs > 0) {
    parts_.sender->Abort(sequence.handoff_key());
  }
}

// Its end is told. The blocks go back at once, unless a handoff may still touch them.
void EngineCore::Retire(Sequence& sequence, SequenceEnd end) {
  if (parts_.metrics != nullptr) parts_.metrics->OnEnd(end);
  const auto live = live_.find(KeyOf(sequence));
  live->second.erase(std::find(live->second.begin(), live->second.end(), &sequence));
  if (live->second.empty()) live_.erase(live);
  if (sequence.open_handoffs > 0) return sequence.Enter(SequenceState::kClosing);
  ReturnBlocks(sequence);
  sequence.Enter(SequenceState::kFinished);
}

void EngineCore::AnnounceHandoff(Sequence& sequence) {
  sequence.ready_since = absl::InfiniteFuture();
  parts_.receiver->Announce(sequence.handoff_key(), sequence.request().deadline,
                            [post = post_, id = sequence.id()] {
                              post([id](EngineCore& core) { core.OnPrefillStarted(id); });
                            });
}

void EngineCore::OnPrefillStarted(uint64_t id) {
  const auto it = std::find_if(waiting_.begin(), waiting_.end(),
                               [id](const auto& sequence) { return sequence->id() == id; });
  if (it == waiting_.end()) return;  // it has just left the queue
  (*it)->ready_since = std::min((*it)->ready_since, parts_.clock->Now());
}

void EngineCore::BeginHandoff(Sequence& sequence) {
  ++sequence.open_handoffs;
  parts_.sender->Begin(sequence.handoff_key(), sequence.request().peer, sequence.given_tokens(),
                       GivenBlocks(sequence), sequence.request().deadline,
                       [post = post_, id = sequence.id(),
                        attempt = sequence.request().attempt](absl::StatusOr<HandoffSent> sent) {
                         post([id, attempt, sent = std::move(sent)](EngineCore& core) mutable {
                           core.OnSent(id, attempt, std::move(sent));
                         });
                       });
  SendComputed(sequence);
}

// What is in the cache need not be computed before it is sent.
void EngineCore::SendComputed(const Sequence& sequence) {
  if (sequence.computed() == 0) return;
  for (uint32_t layer = 0; layer < parts_.model->kv()->layout().layers; ++layer) {
    parts_.sender->LayerReady(sequence.handoff_key(), layer, sequence.computed());
  }
}

// No timer but the request's deadline: how long the prompt waits at the other worker is not known
// here. Once the sender has reserved, its lease covers its death; before, the router does.
void EngineCore::ExpectHandoff(Sequence& sequence) {
  std::vector<BlockId> blocks = GivenBlocks(sequence);
  ++sequence.open_handoffs;
  sequence.handoff_began = parts_.clock->Now();
  sequence.clean_blocks = static_cast<uint32_t>(blocks.size());  // the handoff writes them whole
  parts_.receiver->Expect(
      sequence.handoff_key(), sequence.given_tokens(), std::move(blocks), sequence.cached_blocks,
      sequence.request().deadline,
      [post = post_, id = sequence.id()](absl::StatusOr<HandoffReceived> received) {
        post([id, received = std::move(received)](EngineCore& core) mutable {
          core.OnReceived(id, std::move(received));
        });
      });
}

void EngineCore::OnSent(uint64_t id, uint32_t attempt, absl::StatusOr<HandoffSent> sent) {
  Sequence* sequence = FindHeld(id);
  TANDEM_CHECK(sequence != nullptr, "a handoff ended twice");
  if (parts_.metrics != nullptr) parts_.metrics->OnSent(sent);
  --sequence->open_handoffs;
  if (sequence->state() == SequenceState::kClosing) {
    if (sequence->open_handoffs > 0) return;
    ReturnBlocks(*sequence);
    return sequence->Enter(SequenceState::kFinished);
  }
  if (attempt != sequence->request().attempt) return;  // given up for another peer
  if (sent.ok() && sequence->state() != SequenceState::kSending) {
    sent = absl::InternalError("it was completed before the prompt was computed");
  }
  if (!sent.ok()) {
    return EndWithError(
        *sequence, Annotate(sent.status(), absl::StrCat("handoff to ", sequence->request().peer)));
  }
  Report(*sequence, 0).handoff = *sent;
  Retire(*sequence, SequenceEnd::kHandedOff);
}

void EngineCore::OnReceived(uint64_t id, absl::StatusOr<HandoffReceived> received) {
  Sequence* sequence = FindHeld(id);
  TANDEM_CHECK(sequence != nullptr, "a handoff ended twice");
  if (parts_.metrics != nullptr) {
    parts_.metrics->OnReceived(received, parts_.clock->Now() - sequence->handoff_began);
  }
  --sequence->open_handoffs;
  if (sequence->state() == SequenceState::kClosing) {
    ReturnBlocks(*sequence);
    return sequence->Enter(SequenceState::kFinished);
  }
  const absl::Status status =
      received.ok() ? TakeReceived(*sequence, *received) : received.status();
  if (!status.ok()) EndWithError(*sequence, Annotate(status, "handoff from the prefill worker"));
}

}  // namespace tandem
