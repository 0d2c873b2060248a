#include "router/api/failover.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error_reason.h"
#include "base/grpc_status.h"
#include "base/status.h"

namespace tandem {
namespace {

bool IsLost(const AttemptFailure& failure) {
  return failure.how == LegEnd::kLost || failure.how == LegEnd::kSilent;
}

// Whether the request may do better elsewhere, or later. A deadline that ends a handoff is not the
// client's, which the router watches itself.
bool MayRetry(const AttemptFailure& failure) {
  if (IsLost(failure)) return true;
  switch (failure.why.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kCancelled:
      return true;
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kFailedPrecondition:
      return !failure.partner.empty();
    default:
      return false;
  }
}

bool HasReason(const absl::Status& why, absl::string_view reason) {
  const auto info = DetailOf<google::rpc::ErrorInfo>(why);
  return info && info->reason() == reason;
}

bool IsDraining(const absl::Status& why) { return HasReason(why, kDrainingReason); }

// A worker that is alive and could do the request another time.
bool HasNoRoom(const AttemptFailure& failure) {
  if (IsLost(failure) || IsDraining(failure.why)) return false;
  return failure.how == LegEnd::kRefused || failure.partner.empty() ||
         HasReason(failure.why, kQueueTimeoutReason);
}

// Fields of a Submit that no client has a part in.
bool IsRouters(absl::string_view field) {
  for (const absl::string_view own : {"request_id", "role", "peer", "resume"}) {
    if (absl::StartsWith(field, own)) return true;
  }
  return false;
}

// Whether a worker names something wrong that the client can't mend.
bool RouterIsWrong(const absl::Status& why, bool checked_before) {
  if (!absl::IsInvalidArgument(why) && !absl::IsUnimplemented(why)) return false;
  if (checked_before) return true;
  const auto bad = DetailOf<google::rpc::BadRequest>(why);
  if (!bad) return false;
  return std::any_of(bad->field_violations().begin(), bad->field_violations().end(),
                     [](const auto& violation) { return IsRouters(violation.field()); });
}

void AddOnce(std::vector<std::string>& to, const std::string& address) {
  if (std::find(to.begin(), to.end(), address) == to.end()) to.push_back(address);
}

Fate FateOf(const WorkerLoss& loss, absl::Span<const WorkerView> workers) {
  for (const WorkerView& view : workers) {
    const WorkerFacts& facts = *view.facts;
    if (facts.address != loss.worker) continue;
    if (facts.incarnation != loss.incarnation || facts.unanswered) return Fate::kDied;
    const bool connected = facts.state == WorkerState::kReady ||
                           facts.state == WorkerState::kDraining ||
                           facts.state == WorkerState::kStuck;
    return connected ? Fate::kAlive : Fate::kUnknown;
  }
  return Fate::kDied;  // no name leads to it any more
}

}  // namespace

std::vector<Fate> FatesOf(absl::Span<const WorkerLoss> losses,
                          absl::Span<const WorkerView> workers) {
  std::vector<Fate> fates;
  for (const WorkerLoss& loss : losses) fates.push_back(FateOf(loss, workers));
  return fates;
}

std::string FailureName(const AttemptFailure& failure) {
  if (IsDraining(failure.why)) return "draining";
  if (IsLost(failure)) return "lost";
  if (failure.how == LegEnd::kRefused) return "refused";
  switch (failure.why.code()) {
    case absl::StatusCode::kDataLoss:
      return "damaged";
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
      return "aborted";
    case absl::StatusCode::kDeadlineExceeded:
      return "timeout";
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
      return "unavailable";
    default:
      return "error";
  }
}

bool PairFailed(const AttemptFailure& failure) {
  return failure.how == LegEnd::kFailed && !failure.partner.empty() &&
         absl::IsFailedPrecondition(failure.why);
}

absl::Status LastWord(const absl::Status& why) {
  switch (why.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return WithReason(absl::UnavailableError(why.message()), "HANDOFF_TIMEOUT",
                        {{"retry", "safe"}});
    case absl::StatusCode::kCancelled:
      return WithReason(absl::UnavailableError(why.message()),
                        DefaultReason(absl::StatusCode::kAborted), {{"retry", "safe"}});
    default:
      return why;
  }
}

absl::Status AttemptLog::Quarantine() {
  quarantined_ = true;
  std::vector<std::string> told;
  for (const WorkerLoss& loss : losses_) told.push_back(loss.told);
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          "workers died in ", told.size(),
          " attempts of this request, and it is not tried again: ", absl::StrJoin(told, "; "))),
      "REQUEST_QUARANTINED", {{"retry", "unsafe"}});
}

absl::Status AttemptLog::Judge(absl::Span<const Fate> fates, bool last_word) {
  std::vector<WorkerLoss> left;
  uint32_t deaths = 0;
  for (size_t i = 0; i < losses_.size(); ++i) {
    if (fates[i] == Fate::kAlive && !losses_[i].death) continue;
    left.push_back(std::move(losses_[i]));
    left.back().missing = last_word || fates[i] == Fate::kDied;
    deaths += left.back().death || left.back().missing;
  }
  losses_ = std::move(left);
  if (deaths >= options_.max_deaths) return Quarantine();
  if (losses_.size() < options_.max_deaths) return absl::OkStatus();
  return absl::UnavailableError("it is not known yet whether workers have died of it");
}

absl::Status AttemptLog::Fail(const AttemptFailure& failure) {
  if (RouterIsWrong(failure.why, checked_)) {
    return absl::InternalError(absl::StrCat("attempt ", attempt_, ": a worker finds wrong ",
                                            "what the router made: ", failure.why.message()));
  }
  if (!MayRetry(failure)) return failure.why;
  checked_ = checked_ || failure.checked;
  const bool stopped = IsDraining(failure.why);  // it cut off what ran too long: nothing is wrong
  const bool lost = IsLost(failure) && failure.accepted && !stopped;
  if (lost) {
    losses_.push_back({failure.worker, failure.incarnation,
                       absl::StrCat("attempt ", attempt_, ": ", failure.why.message()),
                       failure.how == LegEnd::kSilent});
  }
  const bool last = attempt_ >= options_.max_attempts;
  if (last && !losses_.empty()) losses_.back().missing |= lost;  // there is no time to find out
  const auto deaths = std::count_if(losses_.begin(), losses_.end(), [](const WorkerLoss& loss) {
    return loss.death || loss.missing;
  });
  if (deaths >= options_.max_deaths) return Quarantine();
  if (last) {
    const absl::Status word = LastWord(failure.why);
    if (attempt_ == 1) return word;
    return Annotate(word, absl::StrCat("attempt ", attempt_, " of ", attempt_));
  }
  const bool no_room = HasNoRoom(failure);
  if (absl::IsFailedPrecondition(failure.why)) {  // one of the two lacks what only two need
    whole_ = true;
  } else if (no_room) {
    AddOnce(exclude_, failure.worker);
  } else {
    // Whoever reports that its peer failed it is alive. A decode worker that reports anything may
    // itself be what is wrong, or full.
    const bool blames_peer = failure.how == LegEnd::kFailed && !IsDraining(failure.why);
    if (!blames_peer || failure.leg == LegKind::kDecode) AddOnce(avoid_, failure.worker);
    if (blames_peer) AddOnce(avoid_, failure.partner);
  }
  may_wait_ = whole_ || !no_room;
  ++attempt_;
  return absl::OkStatus();
}

}  // namespace tandem
