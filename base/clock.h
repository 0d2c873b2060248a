#pragma once
#include "absl/time/time.h"

namespace tandem {

// Where time comes from, so that tests and the simulation can run on their own. Who takes one says
// whether it asks for intervals (RealClock) or for dates (WallClock).
//   threads any
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

// For intervals: deadlines, timeouts, leases, heartbeats, rates. It is the system's time as read
// when the process started, carried on by the monotonic clock. So it never goes back, and a step of
// the system's time (NTP, an operator) moves no deadline; but it is no date, since the longer a
// process lives and the more often its machine's time is put right, the more it is off.
//   life    for ever
const Clock* RealClock();

// For dates: calendar days and months, when a key, price or certificate is good, what is stored or
// shown as the time of something. It is the system's time, as right as the system keeps it: it may
// be set forward or back at any moment, so a difference of two readings is no interval.
//   life    for ever
const Clock* WallClock();

}  // namespace tandem
