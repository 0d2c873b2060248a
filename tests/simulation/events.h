#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <utility>

#include "absl/time/time.h"
#include "base/mix.h"
#include "tests/support/fake_clock.h"

namespace tandem {

// Virtual time: what is to happen, in order. All randomness of a simulation comes from here, so
// that a seed says everything about it.
//   threads one
class Events {
 public:
  explicit Events(uint64_t seed) : random_(seed) {}

  FakeClock* clock() { return &clock_; }
  void After(absl::Duration delay, std::function<void()> action) {
    events_.emplace(std::pair(clock_.Now() + delay, ++made_), std::move(action));
  }
  // False when nothing is left to happen.
  bool RunNext() {
    if (events_.empty()) return false;
    const auto next = events_.begin();
    clock_.Advance(next->first.first - clock_.Now());
    digest_ = Mix(digest_ ^ next->first.second ^ absl::ToUnixNanos(next->first.first));
    const std::function<void()> action = std::move(next->second);
    events_.erase(next);
    ++done_;
    action();
    return true;
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool OneIn(uint64_t times) { return Below(times) == 0; }
  absl::Duration Between(absl::Duration least, absl::Duration most) {
    return least + absl::Nanoseconds(Below(absl::ToInt64Nanoseconds(most - least) + 1));
  }

  uint64_t done() const { return done_; }
  // Equal for two runs in which the same happened at the same times.
  uint64_t digest() const { return digest_; }

 private:
  FakeClock clock_;
  std::mt19937_64 random_;
  std::map<std::pair<absl::Time, uint64_t>, std::function<void()>> events_;
  uint64_t made_ = 0, done_ = 0, digest_ = 0;
};

}  // namespace tandem
