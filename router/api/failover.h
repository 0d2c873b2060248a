#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tandem {

enum class LegKind { kPrefill, kDecode };  // kDecode also stands for the worker that does both

struct FailoverOptions {
  uint32_t max_attempts = 4;  // of one request, the first one included
  uint32_t max_deaths = 3;    // of attempts that a worker did not survive; then no more
  // For a worker that can take an attempt, counted from when it should have begun.
  absl::Duration wait = absl::Seconds(10);
};

// Who ended a leg: the worker before it began, the worker later on, or nobody: it died, fell silent
// or got stuck.
enum class LegEnd { kRefused, kFailed, kLost };

// How one attempt came to its end, which is that of its first leg that could not be spared.
struct AttemptFailure {
  LegKind leg = LegKind::kDecode;
  LegEnd how = LegEnd::kFailed;
  bool accepted = false;  // the worker had taken the request
  absl::Status why;
  std::string worker;    // address of the leg's
  std::string partner;   // of the other leg's; empty where one worker did both
  bool checked = false;  // a worker of the attempt had taken the request: nothing is wrong with it
};

// "lost", "refused", "damaged", ...: one of few, for a metric's label.
std::string FailureName(const AttemptFailure& failure);

// Whether the two workers of the attempt are what does not go together, each being well.
bool PairFailed(const AttemptFailure& failure);

// What a client is told of a failure that could be retried, where no attempt follows. The time that
// was up, or what was cancelled, was a handoff's: DEADLINE_EXCEEDED and CANCELLED are for a
// client's own.
absl::Status LastWord(const absl::Status& why);

// The attempts of one request, and what its failures say of the workers. Pure.
//   threads one at a time
class AttemptLog {
 public:
  explicit AttemptLog(FailoverOptions options) : options_(options) {}

  uint32_t attempt() const { return attempt_; }  // the current one's number, from 1

  // Notes that the current attempt has failed. OK: another may begin, and attempt() is its number.
  // Otherwise what the request ends with, which is FailedPrecondition (REQUEST_QUARANTINED) where
  // too many workers died of it, or with it; and Internal where a worker calls wrong what only the
  // router can have made so.
  absl::Status Fail(const AttemptFailure& failure);

  // Too many workers died of the request.
  bool quarantined() const { return quarantined_; }

  // Addresses that the next attempt should do without if it can, and those it must do without:
  // they said that they have no room.
  const std::vector<std::string>& avoid() const { return avoid_; }
  const std::vector<std::string>& exclude() const { return exclude_; }
  // One worker has to do both jobs: two could not hand over to each other.
  bool whole() const { return whole_; }
  // Whether it is worth waiting for a worker where none can go on now. Not for room: whoever has
  // none says so at once, and the client decides.
  bool may_wait() const { return may_wait_; }

 private:
  const FailoverOptions options_;
  uint32_t attempt_ = 1;
  std::vector<std::string> deaths_;  // "attempt 1: worker ... was lost", of each that had accepted
  std::vector<std::string> avoid_, exclude_;
  bool whole_ = false;
  bool may_wait_ = true;
  bool checked_ = false;  // a worker of an earlier attempt found nothing wrong with the request
  bool quarantined_ = false;
};

}  // namespace tandem
