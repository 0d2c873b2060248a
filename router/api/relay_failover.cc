// A relay's attempts: what the failure of a worker means, and how the next attempt is made.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "router/api/error_map.h"
#include "router/api/relay.h"
#include "router/api/relay_calls.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

}  // namespace

bool Relay::CanSpare(LegKind kind) {
  if (AllEnded()) return true;
  if (kind == LegKind::kDecode || given_up_) return false;
  if (!leg(LegKind::kDecode).reported || !start_ready_) return false;
  for (const Output& output : outputs_) {
    // Only the prefill worker knows the log-probabilities of the first token of an attempt.
    if (!output.ended && output.line.forwarded() <= output.resumed) return false;
  }
  return true;
}

bool Relay::PrefillKnowsWhy(const absl::Status& why) {
  const Leg& prefill = leg(LegKind::kPrefill);
  return prefill.session != nullptr && !prefill.over && !leg(LegKind::kDecode).reported &&
         absl::IsAborted(why);
}

void Relay::OnLegFailed(uint32_t attempt, LegKind kind, LegEnd how, absl::Status why) {
  Calls calls;
  {
    MutexLock lock(&mu_);
    // Who has done its part may die: a prefill worker after its handoff, say.
    if (!Current(attempt) || leg(kind).over) return;
    leg(kind).over = true;
    if (CanSpare(kind)) {
      Settle(&calls);
    } else if (kind == LegKind::kDecode && PrefillKnowsWhy(why)) {
      given_up_ = FailureOf(kind, how, std::move(why));
    } else {
      FailAttempt(FailureOf(kind, how, std::move(why)), &calls);
    }
  }
  Run(std::move(calls));
}

AttemptFailure Relay::FailureOf(LegKind kind, LegEnd how, absl::Status why) {
  AttemptFailure failure;
  failure.leg = kind;
  failure.how = how;
  failure.accepted = leg(kind).accepted;
  for (const Leg& one : legs_) failure.checked = failure.checked || one.accepted || one.reported;
  failure.worker = leg(kind).address;
  failure.incarnation = leg(kind).incarnation;
  if (split_) {
    failure.partner = leg(kind == LegKind::kDecode ? LegKind::kPrefill : LegKind::kDecode).address;
  }
  failure.why = Annotate(why, failure.worker);
  return failure;
}

void Relay::FailAttempt(const AttemptFailure& failure, Calls* calls) {
  calls->failures.push_back(FailureName(failure));
  const uint32_t failed = attempts_.attempt();
  const absl::Status verdict = attempts_.Fail(failure);
  LogWarning("attempt failed",
             {{"request_id", options_.request_id},
              {"attempt", failed},
              {"decode_worker", leg(LegKind::kDecode).address},
              {"prefill_worker", split_ ? leg(LegKind::kPrefill).address : ""},
              {"why", failure.why},
              {"next", verdict.ok() ? absl::StrCat("attempt ", failed + 1, " behind ",
                                                   completion_tokens_, " tokens")
                                    : "the request ends"}});
  if (PairFailed(failure)) calls->failed = PairOf();
  if (!verdict.ok()) {
    calls->quarantined = attempts_.quarantined();
    return End(verdict, calls);
  }
  NoteFailedAttempt(failure);
  Leave(LegKind::kPrefill, /*cancel=*/true, calls);
  Leave(LegKind::kDecode, /*cancel=*/true, calls);
  ResetAttempt();
  last_failure_ = LastWord(failure.why);
  due_at_ = options_.clock->Now();
  to_dispatch_ = true;
  calls->dispatch = true;
}

void Relay::NoteFailedAttempt(const AttemptFailure& failure) {
  iv1::FailedAttempt noted;
  noted.set_decode_worker(leg(LegKind::kDecode).address);
  noted.set_prefill_worker(leg(split_ ? LegKind::kPrefill : LegKind::kDecode).address);
  noted.set_reason(std::string(failure.why.message()));
  noted.set_completion_tokens(completion_tokens_);
  failed_attempts_.push_back(std::move(noted));
}

void Relay::ResetAttempt() {
  if (completion_tokens_ > 0) {
    const Leg& prompt = leg(split_ ? LegKind::kPrefill : LegKind::kDecode);
    cached_tokens_ = std::max(cached_tokens_, prompt.cached_tokens);
  }
  legs_ = {};
  split_ = false;
  given_up_.reset();
  told_paused_ = false;
  if (!start_ready_) plan_.start.clear_prompt_logprobs();
  unfinished_ = 0;
  for (Output& output : outputs_) {
    output.resumed = output.line.forwarded();
    output.decoding = false;
    output.over = output.ended;
    if (!output.ended) ++unfinished_;
  }
}

RelayAttempt Relay::NextAttempt() {
  RelayAttempt next;
  next.number = attempts_.attempt();
  next.avoid = attempts_.avoid();
  next.exclude = attempts_.exclude();
  next.whole = attempts_.whole();
  next.losses = attempts_.losses();
  for (uint32_t i = 0; i < outputs_.size(); ++i) {
    const Output& output = outputs_[i];
    if (!output.ended && output.resumed == 0) continue;
    wv1::ResumedOutput resumed;
    resumed.set_output_index(i);
    resumed.set_ended(output.ended);
    if (!output.ended) {
      const std::vector<int32_t> ids = output.line.ForwardedIds();
      resumed.mutable_token_ids()->Add(ids.begin(), ids.end());
    }
    next.resume.push_back(std::move(resumed));
  }
  if (!next.resume.empty()) next.kv_abi = kv_abi_;
  return next;
}

void Relay::Dispatch() {
  bool more = true;
  while (more) {
    RelayAttempt attempt;
    Dispatcher dispatcher;
    {
      MutexLock lock(&mu_);
      if (end_ || !to_dispatch_ || dispatching_) return;
      dispatching_ = true;
      to_dispatch_ = false;
      attempt = NextAttempt();
      dispatcher = dispatcher_;
    }
    const absl::Status placed = dispatcher(attempt);
    Calls calls;
    {
      MutexLock lock(&mu_);
      dispatching_ = false;
      more = Dispatched(attempt.number, placed, &calls);
    }
    Run(std::move(calls));
  }
}

absl::Status Relay::Judge(uint32_t attempt, absl::Span<const Fate> fates) {
  Calls calls;
  absl::Status verdict;
  {
    MutexLock lock(&mu_);
    if (!Current(attempt)) return absl::CancelledError("the request has ended");
    const bool late = options_.clock->Now() - due_at_ >= options_.failover.wait;
    verdict = attempts_.Judge(fates, late);
    calls.quarantined = attempts_.quarantined();
    if (calls.quarantined) {
      LogWarning("request is quarantined", {{"request_id", options_.request_id}, {"why", verdict}});
      End(verdict, &calls);
    }
  }
  Run(std::move(calls));
  return verdict;
}

bool Relay::Dispatched(uint32_t attempt, const absl::Status& placed, Calls* calls) {
  if (end_) return false;
  if (placed.ok() || attempt != attempts_.attempt()) return to_dispatch_;
  const bool hopeless = attempt == 1 && !absl::IsUnavailable(placed);
  const bool late = options_.clock->Now() - due_at_ >= options_.failover.wait;
  if (hopeless || late || !attempts_.may_wait()) {
    End(last_failure_.ok() ? placed : last_failure_, calls);
  } else {
    to_dispatch_ = true;
  }
  return false;
}

}  // namespace tandem
