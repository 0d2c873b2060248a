#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "router/store/limit_rule.h"

namespace tandem {

// What one call asks of one counter.
struct LimitCharge {
  std::string counter;  // its name. A counter has one window for ever; its amount may change
  LimitWindow window = LimitWindow::kMinute;  // kNone: of calls at once, given back when settled
  int64_t amount = 0;                         // >= 0: what it holds when it is full
  int64_t cost = 0;                           // >= 0, in the same unit
  int64_t least = 0;    // <= cost. Where less than the cost is left, all of that is reserved, if it
                        // is not less than this
  bool shadow = false;  // refuses nobody; takes only what fits
};

struct LimitState {
  bool fits = true;
  int64_t reserved = 0;        // now, of the cost
  int64_t remaining = 0;       // >= 0: what is left now
  absl::Duration reset;        // until it is full again, or its day or month is over
  absl::Duration retry_after;  // where it does not fit: until it would if nobody else came;
                               // infinite where it never will
};

struct LimitVerdict {
  bool admitted = false;
  std::vector<LimitState> states;  // as the charges are ordered
};

// The counters that limits are about. What a call may cost is reserved before it starts, and
// replaced by what it did cost when it is over: so calls that run at once never together pass a
// limit, but by what they cost more than they had reserved.
//   shape   kMinute a bucket that refills evenly, its amount in a minute; kDay, kMonth a count of
//           its own for each day or month of the calendar in UTC; kNone the calls that run now
//   clocks  which day or month it is, says the wall clock; buckets and leases go by one that is
//           never set. A day or month gives its amount once: when the clock is set back, the count
//           that it returns to goes on, and one that began too early goes on when it is due
//   life    of a charge: Reserve, then any Extend and Renew, then Settle. One of which nothing was
//           heard for `lease` is forgotten: it counts no longer among the calls that run, and its
//           reservation is what it cost. A bucket gets back what was not used less what it has
//           refilled since the call began: so in no stretch of time more is used than a bucket
//           holds and what refills meanwhile
//   errors  Unavailable the store does not answer; whether the call took effect is not known, and
//           it may be made again: none takes effect twice. NotFound Extend of a charge that is not
//           there, settled or forgotten
//   threads any. `done` is called once, maybe before the call returns, with no lock held
class LimitStore {
 public:
  using Admitted = std::function<void(absl::StatusOr<LimitVerdict>)>;
  using Done = std::function<void(absl::Status)>;

  virtual ~LimitStore() = default;

  // Charges all of them, or none if one that is no shadow does not fit.
  //   requires: no counter twice
  virtual void Reserve(const std::string& charge_id, std::vector<LimitCharge> charges,
                       Admitted done) = 0;
  // More of each counter, in the order of Reserve, all or none; what is there stays if it does not
  // fit. A call at once counts once however often it is extended.
  //   requires: as many costs as there were charges
  virtual void Extend(const std::string& charge_id, std::vector<int64_t> costs, Admitted done) = 0;
  // It still runs.
  virtual void Renew(const std::string& charge_id, Done done) = 0;
  // What each counter was really used for, in the order of Reserve: below or above what was
  // reserved. Counters of days and months get it back in the window in which it was reserved.
  // Settling again, or what is not there, changes nothing.
  //   requires: as many as there were charges
  virtual void Settle(const std::string& charge_id, std::vector<int64_t> used, Done done) = 0;
};

}  // namespace tandem
