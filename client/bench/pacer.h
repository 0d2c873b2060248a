#pragma once
#include <deque>

#include "absl/types/optional.h"
#include "client/bench/plan.h"

namespace tandem::bench {

// Says when which request of a plan is due. Open loop: each at its own time, whoever has ended.
// Closed loop: always so many at once, the next one when one has ended. Times are since the start.
//   life    the plan outlives it
//   threads one at a time
class Pacer {
 public:
  // `concurrency`: of a closed loop, > 0.
  Pacer(const Plan* plan, absl::optional<uint32_t> concurrency)
      : plan_(*plan), closed_(concurrency.has_value()), turns_(concurrency.value_or(0)) {}

  size_t next() const { return next_; }  // the plan's size once all are sent
  bool all_sent() const { return next_ == plan_.size(); }
  // When next() is due; none where that has to wait for another one's end, or all are sent.
  absl::optional<absl::Duration> due() const {
    if (all_sent() || (closed_ && turns_.empty())) return absl::nullopt;
    return closed_ ? turns_.front() : plan_[next_].at;
  }
  void Sent() {
    ++next_;
    if (closed_) turns_.pop_front();
  }
  void Ended(absl::Duration at) {
    if (closed_) turns_.push_back(at);
  }

 private:
  const Plan& plan_;
  const bool closed_;
  size_t next_ = 0;
  std::deque<absl::Duration> turns_;  // when each place that is free became so
};

}  // namespace tandem::bench
