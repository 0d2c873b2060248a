#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "router/placement/worker_facts.h"

namespace tandem {

enum class LegKind { kPrefill, kDecode };  // kDecode also stands for the worker that does both

struct FailoverOptions {
  uint32_t max_attempts = 4;  // of one request, the first one included
  uint32_t max_deaths = 3;    // of attempts that a worker did not survive; then no more
  // For a worker that can take an attempt, counted from when it should have begun.
  absl::Duration wait = absl::Seconds(10);
};

// Who ended a leg: the worker before it began, the worker later on, or nobody: the connection
// broke, perhaps because the worker died, or the worker fell silent or got stuck.
enum class LegEnd { kRefused, kFailed, kLost, kSilent };

// How one attempt came to its end, which is that of its first leg that could not be spared.
struct AttemptFailure {
  LegKind leg = LegKind::kDecode;
  LegEnd how = LegEnd::kFailed;
  bool accepted = false;  // the worker had taken the request
  absl::Status why;
  std::string worker;        // address of the leg's
  uint64_t incarnation = 0;  // of the worker's process
  std::string partner;       // of the other leg's; empty where one worker did both
  bool checked = false;  // a worker of the attempt had taken the request: nothing is wrong with it
};

// The end of an attempt that a worker had taken, and perhaps did not survive.
struct WorkerLoss {
  std::string worker;        // its address
  uint64_t incarnation = 0;  // of the process that had the attempt
  std::string told;          // "attempt 1: worker ... was lost"
  bool death = false;        // it was silent for too long
  bool missing = false;      // when it was last looked for, it was gone
};

// What is known now of a process that the connection to was lost.
enum class Fate { kUnknown, kAlive, kDied };

// One for each loss: alive is who is connected again, died whose place is taken or deserted.
std::vector<Fate> FatesOf(absl::Span<const WorkerLoss> losses,
                          absl::Span<const WorkerView> workers);

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

  // Attempts that workers perhaps did not survive, and are not known to have survived.
  const std::vector<WorkerLoss>& losses() const { return losses_; }
  // Before the next attempt: takes in what became of losses(). OK: it may begin. Unavailable: so
  // many workers may have died of the request that it has to wait until that is known, or, with
  // `last_word`, what is not known counts as a death. FailedPrecondition: as Fail's.
  absl::Status Judge(absl::Span<const Fate> fates, bool last_word);

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
  absl::Status Quarantine();

  const FailoverOptions options_;
  uint32_t attempt_ = 1;
  std::vector<WorkerLoss> losses_;
  std::vector<std::string> avoid_, exclude_;
  bool whole_ = false;
  bool may_wait_ = true;
  bool checked_ = false;  // a worker of an earlier attempt found nothing wrong with the request
  bool quarantined_ = false;
};

}  // namespace tandem
