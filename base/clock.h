#pragma once
#include "absl/time/time.h"

namespace tandem {

// Where time comes from, so that tests and the simulation can run on their own.
//   threads any
class Clock {
 public:
  virtual ~Clock() = default;
  // Never goes back, so differences are safe for timeouts and heartbeats.
  virtual absl::Time Now() const = 0;
};

// The wall clock as read when the process started, carried on by the monotonic clock: a step of the
// system's time (NTP, an operator) moves no deadline. Lives for ever.
const Clock* RealClock();

}  // namespace tandem
