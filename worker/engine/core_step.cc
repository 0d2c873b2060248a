// One round of the engine: expiry, admission, one batch, sampling, reports.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/status.h"
#include "worker/engine/core.h"

namespace tandem {
namespace {

// A token that the model and the grammar allow was there, until these fields of the request, those
// of them that are set, were applied.
absl::Status NothingToDraw(const Sequence& sequence, const absl::Status& why) {
  const bool listed = !sequence.request().sampling.allowed_ids.empty();
  const bool no_end_yet = sequence.produced() < sequence.request().min_tokens;
  constexpr absl::string_view kNothing = "no token is left that the grammar allows";
  if (listed && no_end_yet) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sampling.allowed_token_ids: with stopping.min_tokens, which forbids stop ids, ",
        kNothing));
  }
  if (listed) {
    return absl::InvalidArgumentError(absl::StrCat("sampling.allowed_token_ids: ", kNothing));
  }
  if (no_end_yet) {
    return absl::InvalidArgumentError(
        absl::StrCat("stopping.min_tokens: it forbids to end, and ", kNothing));
  }
  return why;
}

}  // namespace

// Tells the senders, between the layers of a batch, how much KV is ready.
class EngineCore::LayerRelay final : public LayerObserver {
 public:
  explicit LayerRelay(EngineCore* core) : core_(core) {}
  void OnLayer(uint32_t layer) override {
    for (const Run& run : core_->runs_) {
      const Sequence& sequence = *run.sequence;
      if (sequence.request().role != Role::kPrefill) continue;
      core_->parts_.sender->LayerReady(sequence.handoff_key(), layer,
                                       sequence.computed() + run.rows);
    }
  }

 private:
  EngineCore* const core_;
};

bool EngineCore::Step() {
  const absl::Time now = parts_.clock->Now();
  ExpireWaiting(now);
  ExpireHeld(now);
  Sweep();
  const Plan plan = MakeNextPlan();
  Admit(plan.admit);
  runs_.clear();
  for (const Work& work : plan.work)
    runs_.push_back({.sequence = held_[work.entry].get(), .rows = work.rows});
  Preempt(plan);
  if (!runs_.empty()) {
    Flush();  // who has ended is not told only when the batch is over
    RunBatch();
  }
  Sweep();
  Flush();
  return !plan.work.empty() || !plan.preempt.empty();
}

absl::Status EngineCore::ExpiryOf(const Sequence& waiting, absl::Time now) const {
  if (waiting.request().deadline <= now) {
    return absl::DeadlineExceededError(
        waiting.preempted ? absl::StrCat("the deadline passed while it was preempted, after ",
                                         waiting.produced(), " output tokens")
                          : "the deadline passed before the request could start");
  }
  if (waiting.preempted) return absl::OkStatus();
  if (now - waiting.ready_since < options_.queue_timeout) return absl::OkStatus();
  if (waiting.compiling) {
    return WithReasonName(
        absl::UnavailableError(absl::StrCat("its grammar was not compiled within ",
                                            absl::FormatDuration(options_.queue_timeout),
                                            ": others were before it")),
        kQueueTimeoutReason);
  }
  const uint32_t held = HeldSequences();
  const bool all_run = held + SequencesNeeded(waiting.request()) > limits_.max_sequences;
  return WithReasonName(
      absl::UnavailableError(absl::StrCat(
          all_run ? "none of the running requests ended" : "too few KV blocks became free",
          " within ", absl::FormatDuration(options_.queue_timeout), ": ", waiting_.size(),
          " requests wait, ", held, " of at most ", limits_.max_sequences, " run, ",
          cache_.available(), " of ", parts_.pool->blocks(), " blocks are free")),
      kQueueTimeoutReason);
}

void EngineCore::ExpireWaiting(absl::Time now) {
  for (const auto& sequence : waiting_) {
    if (sequence->ended()) continue;  // with another output of its request
    // Out of the line by its client's doing, it waits for nothing of ours.
    if (!Wanted(*sequence) && !sequence->awaits_handoff()) sequence->ready_since = now;
    const absl::Status status = ExpiryOf(*sequence, now);
    if (!status.ok()) {
      EndWithError(*sequence, status);
    } else if (LimitPassed(*sequence, now)) {
      EndTimeLimit(*sequence);
    }
  }
}

// Of two workers the one that makes the next token ends the output: the prefill worker until the
// first token, then the decode worker.
bool EngineCore::LimitPassed(const Sequence& sequence, absl::Time now) const {
  if (sequence.limit_at() > now) return false;
  return !sequence.awaits_handoff() && sequence.state() != SequenceState::kSending;
}

void EngineCore::ExpireHeld(absl::Time now) {
  for (const auto& sequence : held_) {
    if (sequence->ended()) continue;
    if (sequence->state() == SequenceState::kSending &&
        now - sequence->handoff_began >= options_.handoff_timeout) {
      EndWithError(*sequence,
                   absl::DeadlineExceededError(absl::StrCat(
                       "handoff to ", sequence->request().peer, ": not over within ",
                       absl::FormatDuration(options_.handoff_timeout), " of the prompt's end")));
      continue;
    }
    if (sequence->request().deadline > now) {
      if (LimitPassed(*sequence, now)) EndTimeLimit(*sequence);
      continue;
    }
    EndWithError(*sequence, absl::DeadlineExceededError(absl::StrCat(
                                "the deadline passed while ", NameOf(sequence->state()), ", after ",
                                sequence->produced(), " output tokens")));
  }
}

ScheduleEntry EngineCore::EntryOf(const Sequence& sequence) const {
  ScheduleEntry entry;
  entry.pending = sequence.pending();
  entry.sequences = SequencesNeeded(sequence.request());
  entry.position = sequence.computed();
  entry.all_logits = sequence.wants_prompt_logprobs();
  entry.priority = sequence.request().priority;
  entry.arrival = sequence.id();
  entry.displaced = sequence.displaced;
  entry.paused = !Wanted(sequence);
  if (sequence.state() == SequenceState::kWaiting) {
    const uint32_t own = BlocksAtAdmission(sequence);
    entry.blocks_needed = own + BlocksOfForks(sequence, own);
    entry.prefilling = true;
    entry.runnable = Wanted(sequence) && !sequence.awaits_handoff();
  } else {
    entry.prefilling = sequence.state() == SequenceState::kPrefilling;
    entry.runnable = Wanted(sequence) && sequence.running();
    entry.preemptible = sequence.preemptible();
    const bool full = sequence.computed() >= sequence.blocks.size() * limits_.block_tokens;
    entry.blocks_needed = sequence.running() && full ? 1 : 0;
  }
  return entry;
}

Plan EngineCore::MakeNextPlan() {
  held_entries_.clear();
  for (const auto& sequence : held_) held_entries_.push_back(EntryOf(*sequence));
  LookAtLine();
  LookForBlocks();
  return MakePlan({limits_, held_entries_, waiting_entries_, cache_.available(), BudgetTokens()});
}

// As many rows as the measured speed computes within step_target; a block's until it is known, so
// that a slow machine's first step is not the longest of its life.
uint32_t EngineCore::BudgetTokens() const {
  if (prefill_rate_.Last() <= 0) return limits_.block_tokens;
  const double rows = prefill_rate_.Last() * absl::ToDoubleSeconds(options_.step_target);
  if (rows >= options_.max_batch_tokens) return options_.max_batch_tokens;
  return static_cast<uint32_t>(rows);
}

void EngineCore::Admit(uint32_t count) {
  const size_t first = held_.size();
  for (auto it = waiting_.begin(); count > 0; --count) {
    it = std::find_if(it, waiting_.end(), [this](const auto& one) { return InLine(*one); });
    held_.push_back(std::move(*it));
    it = waiting_.erase(it);
    TakePrefix(*held_.back());  // before new blocks for one could evict what another found
  }
  for (size_t i = first; i < held_.size(); ++i) {
    Sequence& admitted = *held_[i];
    TakeNewBlocks(admitted, BlocksAtAdmission(admitted));
    TakeForkBlocks(admitted);
    if (admitted.awaits_handoff()) {
      admitted.Enter(SequenceState::kAwaitingKv);
      ExpectHandoff(admitted);
    } else {
      admitted.Enter(SequenceState::kPrefilling);
      if (admitted.request().role == Role::kPrefill) BeginHandoff(admitted);
    }
  }
}

void EngineCore::RunBatch() {
  batch_.Clear();
  uint32_t prefill_rows = 0, decode_rows = 0;
  for (Run& run : runs_) {
    Sequence& sequence = *run.sequence;
    if (run.rows == sequence.pending()) run.logits = BatchBuilder::Logits::kLast;
    if (sequence.wants_prompt_logprobs()) run.logits = BatchBuilder::Logits::kAll;
    const bool prefilling = sequence.state() == SequenceState::kPrefilling;
    (prefilling ? prefill_rows : decode_rows) += run.rows;
    GrowBlocks(sequence, run.rows);
    run.first_logits =
        batch_.Add(sequence.NextTokens(run.rows), sequence.computed(), sequence.blocks, run.logits);
  }

  const absl::Time start = parts_.clock->Now();
  LayerRelay relay(this);
  const absl::StatusOr<absl::Span<const float>> logits =
      parts_.model->Forward(batch_.batch(), &relay);
  ++step_number_;
  if (!logits.ok()) {
    LogError("a model step failed", {{"step", step_number_}, {"error", logits.status()}});
  }
  for (const Run& run : runs_) {
    if (run.sequence->ended()) continue;  // by an error of another output of its request
    if (logits.ok()) {
      TakeRows(run, *logits);
    } else {
      EndWithError(*run.sequence,
                   absl::InternalError(
                       absl::StrCat("model step ", step_number_, ": ", logits.status().message())));
    }
  }
  const absl::Time now = parts_.clock->Now();
  // A mixed step's time is shared out by rows.
  const absl::Duration per_row = (now - start) / (prefill_rows + decode_rows);
  if (prefill_rows > 0) prefill_rate_.Add(prefill_rows, per_row * prefill_rows, now);
  if (decode_rows > 0) decode_rate_.Add(decode_rows, per_row * decode_rows, now);
  if (parts_.metrics != nullptr) parts_.metrics->OnStep(now - start, prefill_rows, decode_rows);
}

void EngineCore::TakeRows(const Run& run, absl::Span<const float> logits) {
  Sequence& sequence = *run.sequence;
  const uint32_t from = sequence.computed();
  sequence.Computed(run.rows);
  PublishBlocks(sequence);
  if (run.logits == BatchBuilder::Logits::kAll) GatherPromptLogprobs(run, from, logits);
  if (sequence.pending() > 0) return;
  const uint32_t last = run.logits == BatchBuilder::Logits::kAll ? run.rows - 1 : 0;
  TakeToken(sequence, logits.subspan(size_t{run.first_logits + last} * vocab_, vocab_));
}

void EngineCore::GatherPromptLogprobs(const Run& run, uint32_t from,
                                      absl::Span<const float> logits) {
  const EngineRequest& request = run.sequence->request();
  std::vector<PositionLogprobs>& out = run.sequence->prompt_logprobs;
  if (out.empty()) out.emplace_back();  // nothing predicts the first token
  for (uint32_t row = 0; row < run.rows; ++row) {
    const uint32_t predicted = from + row + 1;
    if (predicted >= request.prompt.size()) return;
    const size_t at = size_t{run.first_logits + row} * vocab_;
    out.push_back(MakeLogprobs(logits.subspan(at, vocab_), request.prompt[predicted],
                               *request.prompt_logprobs));
  }
}

absl::StatusOr<int32_t> EngineCore::Draw(Sequence& sequence, absl::Span<const float> row) {
  absl::Span<const uint32_t> allowed;
  if (sequence.guide != nullptr) {
    ASSIGN_OR_RETURN(allowed, sequence.guide->Mask());
  }
  const SamplingSpec& spec = sequence.request().sampling;
  ASSIGN_OR_RETURN(const absl::Span<const float> adjusted,
                   adjuster_.Adjust(row, spec, sequence.draw_context()));
  absl::StatusOr<int32_t> token =
      sampler_.Sample(adjusted, spec, sequence.output_index(), sequence.produced(), allowed);
  if (token.ok() || allowed.empty() || adjusted.data() == row.data()) return token;
  return NothingToDraw(sequence, token.status());
}

absl::StatusOr<bool> EngineCore::SentenceOver(Sequence& sequence, int32_t token) {
  if (sequence.guide == nullptr || sequence.stops(token)) return false;
  return sequence.guide->Advance(token);
}

absl::StatusOr<std::optional<SequenceFinish>> EngineCore::Produce(Sequence& sequence,
                                                                  absl::Span<const float> row) {
  const EngineRequest& request = sequence.request();
  ASSIGN_OR_RETURN(const int32_t token, Draw(sequence, row));
  ASSIGN_OR_RETURN(const bool over, SentenceOver(sequence, token));
  std::optional<PositionLogprobs> logprobs;
  if (request.logprobs) logprobs = MakeLogprobs(row, token, *request.logprobs);
  const std::optional<SequenceFinish> finish = sequence.Append(token, over);
  if (parts_.metrics != nullptr) parts_.metrics->OnGenerated();
  ReportToken(sequence, token, std::move(logprobs), finish);
  return finish;
}

void EngineCore::TakeToken(Sequence& sequence, absl::Span<const float> row) {
  if (sequence.request().role == Role::kPrefill) return TakeFirstTokens(sequence, row);
  if (sequence.request().outputs > 1) return ForkAndTake(sequence, row);
  const absl::StatusOr<std::optional<SequenceFinish>> finish = Produce(sequence, row);
  if (!finish.ok()) {
    EndWithError(sequence, finish.status());
  } else if (*finish) {
    Retire(sequence, EndOf(**finish));
  } else if (sequence.state() == SequenceState::kPrefilling) {
    sequence.Enter(SequenceState::kDecoding);
  }
}

void EngineCore::Sweep() {
  const auto finished = [](const auto& s) { return s->state() == SequenceState::kFinished; };
  std::erase_if(held_, finished);
  std::erase_if(waiting_, finished);
}

void EngineCore::Flush() {
  for (auto& [id, session] : sessions_) {
    if (session.output.sequences.empty()) continue;
    session.output.step_number = step_number_;
    session.sink->OnStep(std::move(session.output));
    session.output = StepOutput();
  }
}

}  // namespace tandem
