#pragma once
#include <cstdint>

#include "absl/time/time.h"
#include "router/store/limit_rule.h"
#include "router/store/limit_store.h"

namespace tandem {

// When the day or month that `now` is in began, in UTC; zero for other windows.
absl::Time WindowStart(LimitWindow window, absl::Time now);
absl::Time WindowEnd(LimitWindow window, absl::Time start);

// One counter of a LimitStore that keeps them in memory. Time that goes back changes nothing: a
// bucket waits until it is where it was, and a month that has begun stays.
//   units   those of its amount; what is left can be negative, after calls that cost more than they
//           had reserved
//   threads one
class LimitCounter {
 public:
  LimitCounter(LimitWindow window, int64_t amount, absl::Time now);

  void Advance(absl::Time now);
  // A smaller bucket keeps what is in it as far as there is room, a larger one lacks what it
  // lacked.
  void Resize(int64_t amount);
  // What it would say to a cost, at the time that it is at.
  LimitState Look(int64_t cost) const;
  void Take(int64_t cost) { used_ += cost; }
  // What was taken at `since` turns out to have been `more`; negative gives back.
  void Correct(int64_t more, absl::Time since);

  // Whether `then` is in the day or month that it is in.
  bool InWindow(absl::Time then) const { return WindowStart(window_, then) == start_; }
  absl::Time now() const { return now_; }
  // It says what a new one would.
  bool idle() const { return used_ == 0; }

 private:
  void Refill(absl::Time now);
  absl::Duration TimeToRefill(int64_t units) const;
  int64_t NotRefilled(int64_t units, absl::Duration passed) const;

  LimitWindow window_;
  int64_t amount_;
  int64_t used_ = 0;  // a bucket: what is missing; can be above amount_
  absl::Time now_;
  absl::Time start_;        // of the day or month
  absl::Time refilled_at_;  // of a bucket: up to here
};

}  // namespace tandem
