#include "router/api/relay.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/log.h"
#include "base/status.h"
#include "router/api/error_map.h"
#include "router/api/relay_calls.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;
namespace iv1 = inference::v1;

constexpr size_t kTokenBytes = 8;  // what one token id costs in a message, about

}  // namespace

// Hears one worker on the relay's behalf.
class Relay::LegEar final : public LegSink {
 public:
  LegEar(std::shared_ptr<Relay> relay, uint32_t attempt, LegKind kind)
      : relay_(std::move(relay)), attempt_(attempt), kind_(kind) {}
  void OnAccepted(uint32_t) override { relay_->OnAccepted(attempt_, kind_); }
  void OnStep(const wv1::SequenceStep& step) override { relay_->OnStep(attempt_, kind_, step); }
  void OnRefused(absl::Status why) override {
    relay_->OnLegFailed(attempt_, kind_, LegEnd::kRefused, std::move(why));
  }
  void OnLost(absl::Status why) override {
    relay_->OnLegFailed(attempt_, kind_, LegEnd::kLost, WorkerLost(why));
  }
  void OnSilent(absl::Status why) override {
    relay_->OnLegFailed(attempt_, kind_, LegEnd::kSilent, WorkerLost(why));
  }

 private:
  const std::shared_ptr<Relay> relay_;
  const uint32_t attempt_;
  const LegKind kind_;
};

Relay::Relay(Options options)
    : options_(std::move(options)), arrival_(options_.clock->Now()), attempts_(options_.failover) {}

void Relay::SetReader(std::shared_ptr<RelayReader> reader) {
  MutexLock lock(&mu_);
  reader_.swap(reader);
}

bool Relay::Begin(Plan plan, std::vector<Deltas> deltas, Dispatcher dispatcher) {
  MutexLock lock(&mu_);
  if (end_) return false;
  for (Deltas& one : deltas) {
    outputs_.push_back({TokenLine(plan.max_tokens, plan.want_logprobs), std::move(one)});
  }
  start_ready_ = !plan.want_prompt_logprobs;
  model_ = plan.start.model();
  prompt_tokens_ = plan.start.prompt_tokens();
  limit_at_ = arrival_ + plan.time_limit;
  plan_ = std::move(plan);
  dispatcher_ = std::move(dispatcher);
  to_dispatch_ = true;
  due_at_ = options_.clock->Now();
  unfinished_ = static_cast<uint32_t>(outputs_.size());
  return true;
}

void Relay::ExpectPrefill(uint32_t attempt) {
  MutexLock lock(&mu_);
  if (Current(attempt)) split_ = true;
}

bool Relay::AddLeg(LegOrder order) {
  std::optional<WorkerPair> pair;
  {
    MutexLock lock(&mu_);
    if (!Current(order.attempt)) return false;
    leg(order.kind).session = order.session;
    leg(order.kind).address = order.address;
    leg(order.kind).incarnation = order.incarnation;
    if (order.kind == LegKind::kPrefill) pair = PairOf();
    if (kv_abi_ != order.kv_abi) {  // what came before need not be what comes now
      for (Output& output : outputs_) output.line.Forget();
    }
    kv_abi_ = order.kv_abi;
  }
  if (pair && options_.pairs != nullptr) options_.pairs->Tried(*pair);
  order.submit.set_attempt(order.attempt);
  if (order.kind == LegKind::kDecode && order.submit.resume_size() > 0) {
    options_.metrics->resumed_requests.Add();
  }
  const absl::StatusOr<uint64_t> handle = order.session->Submit(
      std::move(order.submit), order.charge,
      std::make_shared<LegEar>(shared_from_this(), order.attempt, order.kind));
  if (!handle.ok()) {
    OnLegFailed(order.attempt, order.kind, LegEnd::kLost, WorkerLost(handle.status()));
    return false;
  }
  bool over = true;
  bool cancel = true;
  {
    MutexLock lock(&mu_);
    if (order.attempt == attempts_.attempt()) {  // the request may have ended meanwhile
      leg(order.kind).handle = *handle;
      over = leg(order.kind).over;
      cancel = leg(order.kind).cancel;
    }
  }
  if (over) order.session->Leave(*handle, cancel);
  TellPaused();
  return !over;
}

void Relay::Fail(absl::Status why) {
  Calls calls;
  {
    MutexLock lock(&mu_);
    End(std::move(why), &calls);
  }
  Run(std::move(calls));
}

void Relay::OnAccepted(uint32_t attempt, LegKind kind) {
  MutexLock lock(&mu_);
  if (Current(attempt)) leg(kind).accepted = true;
}

void Relay::OnStep(uint32_t attempt, LegKind kind, const wv1::SequenceStep& step) {
  if (step.has_error()) {
    absl::Status why = FromRpcStatus(step.error());
    if (why.ok()) why = absl::InternalError("the worker failed without a reason");
    return OnLegFailed(attempt, kind, LegEnd::kFailed, std::move(why));
  }
  Calls calls;
  {
    MutexLock lock(&mu_);
    if (!Current(attempt)) return;
    const size_t had = pending_bytes_;
    std::vector<uint32_t> forwarded;
    for (const Output& output : outputs_) forwarded.push_back(output.line.forwarded());
    absl::Status applied = Apply(kind, step);
    if (step.has_handoff() && split_ && step.handoff().kv_bytes() > 0) calls.worked = PairOf();
    for (uint32_t i = 0; i < outputs_.size(); ++i) {
      if (outputs_[i].line.forwarded() > forwarded[i]) Timestamp(i, &calls);
    }
    if (!applied.ok()) {
      calls.conflict = true;
      End(std::move(applied), &calls);
    } else {
      Settle(&calls);
      DropOutputs(&calls);
      Throttle();
      calls.ready = calls.ready || pending_bytes_ > had;
    }
  }
  Run(std::move(calls));
}

absl::Status Relay::Apply(LegKind kind, const wv1::SequenceStep& step) {
  if (step.attempt() != attempts_.attempt() || step.output_index() >= outputs_.size()) {
    return absl::InternalError(absl::StrCat("a worker answered for attempt ", step.attempt(),
                                            ", output ", step.output_index()));
  }
  Leg& from = leg(kind);
  Output& output = outputs_[step.output_index()];
  from.cached_tokens = std::max(from.cached_tokens, step.cached_tokens());
  from.reported = from.reported || step.token_ids_size() > 0;
  if (step.has_handoff() && kind == LegKind::kPrefill) {
    kv_bytes_ += step.handoff().kv_bytes();
    from.over = true;
  }
  // A prefill worker's output that ends of itself is still handed over; one that is cut off is not.
  const bool cut_off = step.finish().reason() == iv1::FINISH_REASON_TIME_LIMIT;
  if (step.has_finish() && (kind == LegKind::kDecode || cut_off)) {
    from.over = ++from.finishes == unfinished_;
  }
  if (kind == LegKind::kDecode) {
    output.decoding = output.decoding || step.token_ids_size() > 0;
    output.over = output.over || step.has_finish();
  }
  RETURN_IF_ERROR(TakePromptLogprobs(kind, step));
  if (output.ended) return absl::OkStatus();  // past a stop string, or repeated
  RETURN_IF_ERROR(output.line.Add(step));
  for (uint32_t i = 0; i < outputs_.size(); ++i) RETURN_IF_ERROR(Forward(i));
  return absl::OkStatus();
}

// The leg that runs the prompt sends them before or with its first token.
absl::Status Relay::TakePromptLogprobs(LegKind kind, const wv1::SequenceStep& step) {
  if (start_ready_ || (split_ && kind != LegKind::kPrefill)) return absl::OkStatus();
  auto* all = plan_.start.mutable_prompt_logprobs();
  if (step.has_finish() && !leg(kind).reported) {  // cut off before its first token
    start_ready_ = true;
    return absl::OkStatus();
  }
  if (all->empty() && step.prompt_logprobs_size() > 0 && step.prompt_logprobs(0).has_token()) {
    all->Add();  // the first token follows nothing
  }
  all->MergeFrom(step.prompt_logprobs());
  if (!leg(kind).reported) return absl::OkStatus();
  if (all->empty()) all->Add();
  if (all->size() != static_cast<int>(prompt_tokens_)) {
    return absl::InternalError(absl::StrCat("a worker reported ", all->size(),
                                            " prompt log-probabilities for a prompt of ",
                                            prompt_tokens_, " tokens"));
  }
  start_ready_ = true;
  return absl::OkStatus();
}

iv1::OutputDelta* Relay::PendingDelta(uint32_t index) {
  for (iv1::OutputDelta& delta : *pending_.mutable_outputs()) {
    if (delta.index() == index) return &delta;
  }
  int at = pending_.outputs_size();
  pending_.add_outputs()->set_index(index);
  for (; at > 0 && pending_.outputs(at - 1).index() > index; --at) {
    pending_.mutable_outputs()->SwapElements(at - 1, at);
  }
  return pending_.mutable_outputs(at);
}

absl::Status Relay::Forward(uint32_t index) {
  Output& output = outputs_[index];
  if (!start_ready_) return absl::OkStatus();
  while (!output.ended) {
    std::optional<TokenLine::Token> token = output.line.Next();
    if (!token) break;
    RETURN_IF_ERROR(ForwardToken(index, *std::move(token)));
  }
  if (!output.ended && output.line.ended()) return EndOutput(index);
  return absl::OkStatus();
}

absl::Status Relay::ForwardToken(uint32_t index, TokenLine::Token token) {
  Output& output = outputs_[index];
  iv1::OutputDelta* delta = PendingDelta(index);
  const bool shown = !token.last || plan_.include_stop || !output.line.finish().has_stop_token_id();
  if (shown) {
    ASSIGN_OR_RETURN(const std::string text, output.deltas.Push(token.id));
    delta->mutable_text()->append(text);
    pending_bytes_ += text.size();
  }
  if (plan_.send_token_ids) delta->add_token_ids(token.id);
  if (token.logprobs != nullptr) {
    pending_bytes_ += token.logprobs->ByteSizeLong();
    delta->mutable_logprobs()->AddAllocated(token.logprobs.release());
  }
  pending_bytes_ += kTokenBytes;
  ++completion_tokens_;
  if (output.deltas.matched()) return EndOutput(index);
  return absl::OkStatus();
}

absl::Status Relay::EndOutput(uint32_t index) {
  Output& output = outputs_[index];
  iv1::OutputDelta* delta = PendingDelta(index);
  if (!output.deltas.matched()) {
    ASSIGN_OR_RETURN(const std::string rest, output.deltas.Finish());
    delta->mutable_text()->append(rest);
  }
  output.ended = true;
  iv1::OutputFinish* finish = delta->mutable_finish();
  finish->set_completion_tokens(output.line.forwarded());
  if (const std::optional<std::string> stop = output.deltas.matched()) {
    finish->set_reason(iv1::FINISH_REASON_STOP);
    finish->set_stop(*stop);
    stopped_ = true;
  } else if (!output.line.ended()) {
    finish->set_reason(iv1::FINISH_REASON_TIME_LIMIT);
  } else {
    finish->set_reason(output.line.finish().reason());
    if (output.line.finish().has_stop_token_id()) {
      finish->set_stop_token_id(output.line.finish().stop_token_id());
    }
  }
  reason_ = finish->reason();
  pending_bytes_ += kTokenBytes;
  return absl::OkStatus();
}

absl::Status Relay::CutOff() {
  start_ready_ = true;
  for (uint32_t i = 0; i < outputs_.size(); ++i) {
    if (outputs_[i].ended) continue;
    RETURN_IF_ERROR(EndOutput(i));
  }
  return absl::OkStatus();
}

void Relay::Timestamp(uint32_t index, Calls* calls) {
  const absl::Time now = options_.clock->Now();
  first_token_ = std::min(first_token_, now);
  absl::Time& last = outputs_[index].last_token;
  if (last != absl::InfiniteFuture()) calls->latencies.push_back(now - last);
  calls->model = model_;
  last = now;
}

void Relay::DropOutputs(Calls* calls) {
  const Leg& decode = leg(LegKind::kDecode);
  if (end_ || AllEnded() || !decode.handle || decode.over) return;
  for (uint32_t i = 0; i < outputs_.size(); ++i) {
    Output& output = outputs_[i];
    if (!output.ended || !output.decoding || output.over) continue;
    output.over = true;
    calls->cancel.push_back({decode.session, *decode.handle, i});
  }
}

bool Relay::AllEnded() {
  for (const Output& output : outputs_) {
    if (!output.ended) return false;
  }
  return !outputs_.empty();
}

void Relay::Settle(Calls* calls) {
  if (!AllEnded()) {
    if (given_up_ && leg(LegKind::kPrefill).over) FailAttempt(*given_up_, calls);
    return;
  }
  Leg& prefill = leg(LegKind::kPrefill);
  const Leg& decode = leg(LegKind::kDecode);
  // The handoff's report says how many bytes went over. It is sure to come once the decode worker
  // has sent tokens; before that, a stop string makes the handoff pointless.
  const bool handing_over = split_ && !prefill.over && (!stopped_ || decode.reported);
  if (!handing_over) return End(absl::OkStatus(), calls);
  if (stopped_) Leave(LegKind::kDecode, /*cancel=*/true, calls);
}

void Relay::Leave(LegKind kind, bool cancel, Calls* calls) {
  Leg& from = leg(kind);
  if (from.session == nullptr) return;
  from.cancel = from.cancel || (cancel && !from.over);
  from.over = true;
  if (from.handle) calls->leave.push_back({from.session, *from.handle, from.cancel});
}

void Relay::End(absl::Status status, Calls* calls) {
  if (end_) return;
  ended_at_ = options_.clock->Now();
  if (status.ok()) FillEnd();
  end_ = std::move(status);
  Leave(LegKind::kPrefill, /*cancel=*/true, calls);
  Leave(LegKind::kDecode, /*cancel=*/true, calls);
  if (!blocked_since_) blocked_since_ = ended_at_;
  calls->ready = true;
  calls->unused = std::exchange(dispatcher_, nullptr);
}

void Relay::FillEnd() {
  const Leg& prefill = leg(split_ ? LegKind::kPrefill : LegKind::kDecode);
  iv1::Usage* usage = pending_.mutable_end()->mutable_usage();
  usage->set_prompt_tokens(prompt_tokens_);
  usage->set_cached_tokens(std::max(cached_tokens_, prefill.cached_tokens));
  usage->set_completion_tokens(completion_tokens_);
  iv1::Serving* serving = pending_.mutable_end()->mutable_serving();
  serving->set_prefill_worker(prefill.address);
  serving->set_decode_worker(leg(LegKind::kDecode).address);
  serving->set_attempts(attempts_.attempt());
  for (iv1::FailedAttempt& failed : failed_attempts_) {
    *serving->add_failed_attempts() = std::move(failed);
  }
  serving->set_kv_bytes(kv_bytes_);
  serving->set_first_token_us(
      absl::ToInt64Microseconds(std::min(first_token_, ended_at_) - arrival_));
  serving->set_total_us(absl::ToInt64Microseconds(ended_at_ - arrival_));
}

void Relay::EndAtLimit() {
  Calls calls;
  {
    MutexLock lock(&mu_);
    if (end_ || options_.clock->Now() < limit_at_) return;
    End(CutOff(), &calls);
  }
  Run(std::move(calls));
}

void Relay::Tick() {
  EndAtLimit();
  Dispatch();
  std::shared_ptr<RelayReader> reader;
  {
    MutexLock lock(&mu_);
    if (!blocked_since_) return;
    if (options_.clock->Now() - *blocked_since_ < options_.slow_client_timeout) return;
    blocked_since_ = absl::InfiniteFuture();
    reader = reader_;
  }
  options_.metrics->slow_client_cancels.Add();
  Fail(SlowClient());
  if (reader != nullptr) reader->Abandon();
}

void Relay::Run(Calls calls) {
  if (calls.conflict) options_.metrics->token_conflicts.Add();
  if (calls.quarantined) options_.metrics->quarantined_requests.Add();
  for (const std::string& why : calls.failures) options_.metrics->failed_attempts.With({why}).Add();
  if (options_.pairs != nullptr) {
    if (calls.worked) options_.pairs->Worked(*calls.worked);
    if (calls.failed) options_.pairs->Failed(*calls.failed);
  }
  for (const absl::Duration latency : calls.latencies) {
    options_.metrics->inter_token_latency.With({calls.model}).Observe(latency);
  }
  for (const Calls::OutputCall& call : calls.cancel) {
    call.session->CancelOutput(call.handle, call.output);
  }
  for (const Calls::LegCall& call : calls.leave) call.session->Leave(call.handle, call.cancel);
  TellPaused();
  if (calls.dispatch) Dispatch();
  if (!calls.ready) return;
  std::shared_ptr<RelayReader> reader;
  {
    MutexLock lock(&mu_);
    reader = reader_;
  }
  if (reader != nullptr) reader->OnReady();
}

}  // namespace tandem
