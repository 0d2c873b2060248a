#pragma once
#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "router/store/limit_counter.h"
#include "router/store/limit_store.h"

namespace tandem {

// A LimitStore of this process alone: exact, never slow, empty after a restart. `done` is called
// before a call returns.
//   threads any
class MemoryLimits final : public LimitStore {
 public:
  struct Options {
    absl::Duration lease = absl::Seconds(60);  // > 0
    const Clock* wall = WallClock();           // for days and months; outlives it
  };
  // The clock is for buckets and leases, and outlives it.
  MemoryLimits(const Clock* clock, Options options) : clock_(clock), options_(options) {}

  void Reserve(const std::string& charge_id, std::vector<LimitCharge> charges,
               Admitted done) override ABSL_LOCKS_EXCLUDED(mu_);
  void Extend(const std::string& charge_id, std::vector<int64_t> costs, Admitted done) override
      ABSL_LOCKS_EXCLUDED(mu_);
  void Renew(const std::string& charge_id, Done done) override ABSL_LOCKS_EXCLUDED(mu_);
  void Settle(const std::string& charge_id, std::vector<int64_t> used, Done done) override
      ABSL_LOCKS_EXCLUDED(mu_);

  // Counters that are not idle, and charges that are not settled: how much it remembers.
  size_t counters() ABSL_LOCKS_EXCLUDED(mu_);
  size_t charges() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Item {
    LimitCharge charge;
    int64_t reserved = 0;
    bool taken = false;  // not so a shadow that did not fit
    LimitCounter::Taken taken_at;
  };
  struct Ask {
    int64_t cost = 0, least = 0;
  };
  struct Held {
    std::string id;
    std::vector<Item> items;
    absl::Time heard_of;  // by clock_
  };

  // Reads the clocks and forgets what is due: what every call begins with.
  void Begin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  LimitCounter& At(const LimitCharge& charge) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  LimitVerdict Take(std::vector<Item>& items, absl::Span<const Ask> asks)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Hold(Held held, const LimitVerdict& verdict) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool Extends(const Item& item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Release(const Held& held, absl::Span<const int64_t> used) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Hear(std::list<Held>::iterator held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ForgetIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock* const clock_;
  const Options options_;
  Mutex mu_;
  LimitTime now_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, LimitCounter> counters_ ABSL_GUARDED_BY(mu_);
  size_t counters_kept_ ABSL_GUARDED_BY(mu_) = 0;  // by the last ForgetIdle
  std::list<Held> held_ ABSL_GUARDED_BY(mu_);      // in order of heard_of
  absl::flat_hash_map<std::string, std::list<Held>::iterator> by_id_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
