#pragma once
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "router/store/limit_rule.h"
#include "router/store/limit_store.h"

namespace tandem {

// When the day or month that `now` is in began, in UTC; zero for other windows.
absl::Time WindowStart(LimitWindow window, absl::Time now);
absl::Time WindowEnd(LimitWindow window, absl::Time start);

// One moment, as the two clocks of base/clock.h have it.
struct LimitTime {
  absl::Time steady;  // RealClock's: buckets and leases go by it
  absl::Time date;    // WallClock's: says which day and month it is
};

// One counter of a LimitStore that keeps them in memory.
//   life    the count of a day or month that the date has left, for the next or since the clock was
//           set, is remembered for a week by the steady clock, the last four of them: a date that
//           comes back finds it, and nobody gets a day's amount twice
//   units   those of its amount; what is left can be negative, after calls that cost more than they
//           had reserved
//   threads one
class LimitCounter {
 public:
  // When something was taken.
  struct Taken {
    absl::Time at;      // by the steady clock
    absl::Time window;  // the start of the day or month
  };

  LimitCounter(LimitWindow window, int64_t amount, LimitTime now);

  void Advance(LimitTime now);
  // A smaller bucket keeps what is in it as far as there is room, a larger one lacks what it
  // lacked.
  void Resize(int64_t amount);
  // What it would say to a cost, at the time that it is at.
  LimitState Look(int64_t cost) const;
  void Take(int64_t cost) { used_ += cost; }
  // What was taken then turns out to have been `more`; negative gives back.
  void Correct(int64_t more, const Taken& taken);

  Taken taken_now() const { return {now_.steady, start_}; }
  // Whether it is still the day or month in which this was taken.
  bool InWindow(const Taken& taken) const { return taken.window == start_; }
  // It says what a new one would, whatever becomes of the date.
  bool idle() const { return used_ == 0 && left_.empty(); }

 private:
  // A day or month that the date has left.
  struct Left {
    absl::Time start;
    int64_t used = 0;
    absl::Time left_at;  // by the steady clock
  };

  void Turn(absl::Time start);
  int64_t* UsedIn(absl::Time start);
  void Refill(absl::Time now);
  absl::Duration TimeToRefill(int64_t units) const;
  int64_t NotRefilled(int64_t units, absl::Duration passed) const;

  LimitWindow window_;
  int64_t amount_;
  int64_t used_ = 0;  // a bucket: what is missing; can be above amount_
  LimitTime now_;
  absl::Time start_;        // of the day or month
  std::vector<Left> left_;  // in order of left_at; none is start_'s
  absl::Time refilled_at_;  // of a bucket: up to here, by the steady clock
};

}  // namespace tandem
