#include "router/store/limit_counter.h"

#include <algorithm>

#include "absl/time/civil_time.h"

namespace tandem {
namespace {

constexpr int64_t kWindowNanos = int64_t{60} * 1'000'000'000;  // that a bucket refills in
// When somebody who holds a place will leave it is not known.
constexpr absl::Duration kRetryForAPlace = absl::Seconds(1);

// No debt makes anybody wait for longer: some counters hold so little that it would be for ages.
constexpr absl::Duration kLongest = absl::Hours(24 * 365);

// A clock that is wrong is put right by then.
constexpr absl::Duration kLeftIsRemembered = absl::Hours(24 * 7);
constexpr size_t kMostLeft = 4;

}  // namespace

absl::Time WindowStart(LimitWindow window, absl::Time now) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  switch (window) {
    case LimitWindow::kDay:
      return absl::FromCivil(absl::ToCivilDay(now, utc), utc);
    case LimitWindow::kMonth:
      return absl::FromCivil(absl::ToCivilMonth(now, utc), utc);
    case LimitWindow::kNone:
    case LimitWindow::kMinute:
      break;
  }
  return absl::UnixEpoch();
}

absl::Time WindowEnd(LimitWindow window, absl::Time start) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  if (window == LimitWindow::kDay) return absl::FromCivil(absl::ToCivilDay(start, utc) + 1, utc);
  return absl::FromCivil(absl::ToCivilMonth(start, utc) + 1, utc);
}

LimitCounter::LimitCounter(LimitWindow window, int64_t amount, LimitTime now)
    : window_(window),
      amount_(amount),
      now_(now),
      start_(WindowStart(window, now.date)),
      refilled_at_(now.steady) {}

void LimitCounter::Advance(LimitTime now) {
  now_ = now;
  if (window_ == LimitWindow::kMinute) Refill(now.steady);
  std::erase_if(left_,
                [&](const Left& left) { return now.steady - left.left_at >= kLeftIsRemembered; });
  const absl::Time start = WindowStart(window_, now.date);
  if (start != start_) Turn(start);
}

// To another day or month, which it may have been in before.
void LimitCounter::Turn(absl::Time start) {
  const auto known = std::find_if(left_.begin(), left_.end(),
                                  [&](const Left& left) { return left.start == start; });
  int64_t used = 0;
  if (known != left_.end()) {
    used = known->used;
    left_.erase(known);
  }
  if (used_ != 0) left_.push_back({start_, used_, now_.steady});
  if (left_.size() > kMostLeft) left_.erase(left_.begin());
  start_ = start;
  used_ = used;
}

// Null where it is not remembered.
int64_t* LimitCounter::UsedIn(absl::Time start) {
  if (start == start_) return &used_;
  for (Left& left : left_) {
    if (left.start == start) return &left.used;
  }
  return nullptr;
}

void LimitCounter::Resize(int64_t amount) {
  const int64_t less = amount_ - amount;
  if (window_ == LimitWindow::kMinute && less > 0) used_ -= std::min(used_, less);
  amount_ = amount;
}

// Time that is less than a unit's stays for the next look.
void LimitCounter::Refill(absl::Time now) {
  if (used_ <= 0 || amount_ == 0) {
    refilled_at_ = now;
    return;
  }
  // Beyond the time that refills all of it, so that the product below fits.
  const absl::Duration passed = std::min(now - refilled_at_, TimeToRefill(used_));
  const auto units = static_cast<int64_t>(static_cast<__int128>(absl::ToInt64Nanoseconds(passed)) *
                                          amount_ / kWindowNanos);
  used_ -= std::min(units, used_);
  refilled_at_ = used_ == 0 ? now : refilled_at_ + TimeToRefill(units);
}

// Rounded up to a nanosecond: a retry after it finds what it needs.
//   requires: amount_ > 0
absl::Duration LimitCounter::TimeToRefill(int64_t units) const {
  const __int128 nanos = (static_cast<__int128>(units) * kWindowNanos + amount_ - 1) / amount_;
  if (nanos > absl::ToInt64Nanoseconds(kLongest)) return kLongest;
  return absl::Nanoseconds(static_cast<int64_t>(nanos));
}

LimitState LimitCounter::Look(int64_t cost) const {
  LimitState state;
  const int64_t left = std::max<int64_t>(0, amount_ - used_);
  state.fits = cost <= left && amount_ > 0;
  state.remaining = left;
  const bool never = cost > amount_ || amount_ == 0;
  if (never) state.retry_after = absl::InfiniteDuration();
  if (window_ == LimitWindow::kNone) {
    if (!state.fits && !never) state.retry_after = kRetryForAPlace;
    return state;
  }
  if (window_ == LimitWindow::kMinute) {
    if (amount_ == 0) return state;
    const absl::Duration waited = now_.steady - refilled_at_;
    state.reset = std::max(absl::ZeroDuration(), TimeToRefill(used_) - waited);
    if (!state.fits && !never) {
      state.retry_after =
          std::max(absl::ZeroDuration(), TimeToRefill(cost - (amount_ - used_)) - waited);
    }
    return state;
  }
  state.reset = WindowEnd(window_, start_) - now_.date;
  if (!state.fits && !never) state.retry_after = state.reset;
  return state;
}

void LimitCounter::Correct(int64_t more, const Taken& taken) {
  int64_t* const used = UsedIn(taken.window);
  if (used == nullptr) return;
  if (more < 0 && window_ == LimitWindow::kMinute) {
    more = -NotRefilled(-more, now_.steady - taken.at);
  }
  *used = std::max<int64_t>(0, *used + more);
}

// Refilling is shared by all that was taken, so what one call took counts as refilled first.
int64_t LimitCounter::NotRefilled(int64_t units, absl::Duration passed) const {
  const auto refilled =
      static_cast<__int128>(absl::ToInt64Nanoseconds(passed)) * amount_ / kWindowNanos + 1;
  return passed <= absl::ZeroDuration() ? units : std::max<__int128>(0, units - refilled);
}

}  // namespace tandem
