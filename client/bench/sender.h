#pragma once
#include <functional>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "client/bench/pacer.h"
#include "client/bench/plan.h"
#include "client/bench/record.h"
#include "client/client.h"

namespace tandem::bench {

struct Progress {
  absl::Duration at;
  size_t sent = 0, ended = 0, failed = 0;
};

// Carries a plan out: sends each request when it is due, whether or not others have ended (or, in
// a closed loop, when one has), and takes down when its tokens come.
//   life    the plan and the client outlive it; Go() once
//   threads Go() on one, Stop() on any, answers on gRPC's
class Sender {
 public:
  struct Options {
    std::string model;
    uint32_t vocabulary = 0;                           // > 0; prompts are drawn from it
    uint64_t seed = 0;                                 // of the prompts, and of the sampling
    float temperature = 0;                             // of the sampling
    absl::optional<uint32_t> concurrency;              // of a closed loop
    absl::Duration timeout;                            // of a request, from when it was sent
    std::function<void(const Progress&)> on_progress;  // about each second; may be empty
  };

  Sender(const Plan* plan, Client* client, Options options);
  // Returns a record for each request of the plan, once all that were sent have ended.
  std::vector<Record> Go();
  // Sends nothing more and cancels what runs.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Listener;

  inference::v1::GenerateRequest MakeRequest(size_t index) const;
  absl::Duration Elapsed() const { return clock_->Now() - start_; }
  // When the next request was due; none once stopped.
  absl::optional<absl::Duration> AwaitTurn() ABSL_LOCKS_EXCLUDED(mu_);
  void AwaitEnds() ABSL_LOCKS_EXCLUDED(mu_);
  void Ended(Record* record, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);
  void ShowProgress() ABSL_LOCKS_EXCLUDED(mu_);

  const Plan& plan_;
  Client* const client_;
  const Options options_;
  const Clock* const clock_ = RealClock();
  absl::Time start_;
  absl::Duration shown_;                        // when progress was shown last
  std::vector<std::function<void()>> cancels_;  // of those that were sent
  // Each its request's listener's until that has ended.
  std::vector<Record> records_;

  Mutex mu_;
  CondVar changed_;  // one ended, or stopped
  Pacer pacer_ ABSL_GUARDED_BY(mu_);
  size_t ended_ ABSL_GUARDED_BY(mu_) = 0;
  size_t failed_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::bench
