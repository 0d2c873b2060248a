#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "router/store/usage.h"

namespace tandem {

// Brings admissions and usage rows to the store: whatever comes while one transaction is on its way
// to the disk is in the next, so that a commit serves all who wait for it.
//   life    Create, then Admit and Finish, then Stop or the destructor, which is Stop with what is
//           left of `patience`. `append` is called by one thread and outlives it. It has to end
//           in a bounded time: while it runs, nobody's patience ends
//   errors  told to `done`: InvalidArgument the event is out of its bounds; Unavailable the store
//           did not take it in time, or too many wait. An admission that failed so is given up, and
//           the call must not start: at worst it is in the store, and closed there as abandoned. A
//           row that failed so is kept and tried until it is written or the ledger stops
//   threads any; `done` is called once, by the ledger's thread or before the call returns, with no
//           lock held
class Ledger {
 public:
  using Append = std::function<absl::StatusOr<LedgerWritten>(absl::Span<const LedgerEvent>)>;
  using Done = std::function<void(const absl::Status&)>;

  struct Options {
    size_t queue = 16'384;                          // admissions are refused while more events wait
    size_t batch = 1024;                            // events of a transaction, at most
    absl::Duration patience = absl::Seconds(5);     // how long somebody waits for the store
    absl::Duration retry = absl::Milliseconds(50);  // after a failure; doubles up to a second
  };

  static absl::StatusOr<std::unique_ptr<Ledger>> Create(Append append, const Clock* clock,
                                                        Options options);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  void Admit(Admission admission, Done done) ABSL_LOCKS_EXCLUDED(mu_);
  void Finish(UsageRow row, Done done) ABSL_LOCKS_EXCLUDED(mu_);
  // Takes nothing new, and returns when all is written or `deadline` has passed: then what is left
  // fails. Says how many rows were lost in its life; the store closes their admissions later.
  size_t Stop(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mu_);

  size_t waiting() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry {
    LedgerEvent event;
    Done done;  // null once it was called
    absl::Time patience_ends;
    bool row() const { return std::holds_alternative<UsageRow>(event); }
  };
  using Entries = std::deque<Entry>;

  Ledger(Append append, const Clock* clock, Options options)
      : append_(std::move(append)), clock_(clock), options_(options) {}

  void Add(LedgerEvent event, Done done) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CheckPlace(bool row) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  Entries NextBatch() ABSL_LOCKS_EXCLUDED(mu_);
  // Tells those that are written and takes them out of `batch`; why the others are not.
  absl::Status Write(Entries& batch) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status WriteOneByOne(Entries& batch) ABSL_LOCKS_EXCLUDED(mu_);
  void Refused(const LedgerEvent& event, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);
  // Puts it back, but for those that have waited long enough.
  void Return(Entries batch, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);
  // False when there is no time left for another try.
  bool WaitToRetry(absl::Duration wait) ABSL_LOCKS_EXCLUDED(mu_);
  void GiveUp(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);

  const Append append_;
  const Clock* const clock_;
  const Options options_;
  std::thread thread_;

  mutable Mutex mu_;
  CondVar changed_;  // queue_ or stopping_
  CondVar stop_;     // stopping_
  Entries queue_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time stop_by_ ABSL_GUARDED_BY(mu_);
  size_t rows_lost_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tandem
