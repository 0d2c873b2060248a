#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "router/placement/policy.h"

namespace tandem {

// Keeps pairs of workers apart that can't hand over to each other, as their layouts say. Each of
// the two goes on alone, and with others.
//   life    a pair is together --Failed--> apart for a pause --Tried, by one request-> apart for as
//           long again --Worked--> together, or --Failed--> apart for twice as long, up to a limit
//   units   a pair is known by its workers' addresses
//   threads any
class PairBreaker {
 public:
  struct Options {
    absl::Duration min_pause = absl::Seconds(10);
    absl::Duration max_pause = absl::Minutes(5);
    const Clock* clock = RealClock();
  };
  explicit PairBreaker(Options options) : options_(options) {}

  // Pairs that are not to be chosen now.
  std::vector<WorkerPair> Apart() const ABSL_LOCKS_EXCLUDED(mu_);
  // A request goes to this pair. Where it was apart, those that ask Apart() from now on do not,
  // until it is known how that one fared.
  void Tried(const WorkerPair& pair) ABSL_LOCKS_EXCLUDED(mu_);
  void Failed(const WorkerPair& pair) ABSL_LOCKS_EXCLUDED(mu_);
  void Worked(const WorkerPair& pair) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry {
    absl::Duration pause;
    absl::Time until;
    bool tried = false;  // since it failed last
  };

  const Options options_;
  mutable Mutex mu_;
  // Of pairs that failed and have not worked since, and not for very long.
  std::map<WorkerPair, Entry> entries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
