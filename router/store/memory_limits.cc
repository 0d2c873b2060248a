#include "router/store/memory_limits.h"

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tandem {
namespace {

constexpr size_t kCountersKeptAnyway = 1024;

absl::Status NotHere(const std::string& charge_id) {
  return absl::NotFoundError(
      absl::StrCat("charge ", charge_id, " is not there: it was settled, or given up for lost"));
}

}  // namespace

LimitCounter& MemoryLimits::At(const LimitCharge& charge) {
  LimitCounter& counter =
      counters_.try_emplace(charge.counter, charge.window, charge.amount, now_).first->second;
  counter.Advance(now_);
  counter.Resize(charge.amount);
  return counter;
}

// All are looked at before any is charged.
LimitVerdict MemoryLimits::Take(std::vector<Item>& items, absl::Span<const int64_t> costs) {
  LimitVerdict verdict;
  verdict.admitted = true;
  for (size_t i = 0; i < items.size(); ++i) {
    verdict.states.push_back(At(items[i].charge).Look(costs[i]));
    verdict.admitted &= verdict.states[i].fits || items[i].charge.shadow;
  }
  if (!verdict.admitted) return verdict;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!verdict.states[i].fits) continue;
    At(items[i].charge).Take(costs[i]);
    items[i].reserved += costs[i];
    verdict.states[i].remaining -= costs[i];
  }
  return verdict;
}

void MemoryLimits::Reserve(const std::string& charge_id, std::vector<LimitCharge> charges,
                           Admitted done) {
  std::vector<int64_t> costs;
  Held held{charge_id, {}, {}};
  for (LimitCharge& charge : charges) {
    costs.push_back(charge.cost);
    held.items.push_back({std::move(charge)});
  }
  LimitVerdict verdict;
  {
    MutexLock lock(&mu_);
    Begin();
    if (const auto known = by_id_.find(charge_id); known != by_id_.end()) {
      Hear(known->second);
      verdict = Take(known->second->items, std::vector<int64_t>(costs.size()));
      verdict.admitted = true;
    } else {
      verdict = Take(held.items, costs);
      if (verdict.admitted) Hold(std::move(held), verdict);
    }
  }
  done(std::move(verdict));
}

void MemoryLimits::Hold(Held held, const LimitVerdict& verdict) {
  for (size_t i = 0; i < held.items.size(); ++i) {
    Item& item = held.items[i];
    item.taken = verdict.states[i].fits;
    item.window_start = At(item.charge).window_start();
  }
  held.heard_of = now_;
  held_.push_back(std::move(held));
  by_id_.emplace(held_.back().id, std::prev(held_.end()));
}

// A place is held once, and a call belongs to the day and month in which it began.
bool MemoryLimits::Extends(const Item& item) {
  return item.taken && item.charge.window != LimitWindow::kNone &&
         item.window_start == At(item.charge).window_start();
}

void MemoryLimits::Extend(const std::string& charge_id, std::vector<int64_t> costs, Admitted done) {
  absl::StatusOr<LimitVerdict> verdict = NotHere(charge_id);
  {
    MutexLock lock(&mu_);
    Begin();
    if (const auto known = by_id_.find(charge_id); known != by_id_.end()) {
      Hear(known->second);
      std::vector<Item>& items = known->second->items;
      TANDEM_CHECK(costs.size() == items.size(), "as many costs as there are charges");
      for (size_t i = 0; i < items.size(); ++i) {
        if (!Extends(items[i])) costs[i] = 0;
      }
      verdict = Take(items, costs);
    }
  }
  done(std::move(verdict));
}

void MemoryLimits::Renew(const std::string& charge_id, Done done) {
  absl::Status status = NotHere(charge_id);
  {
    MutexLock lock(&mu_);
    Begin();
    if (const auto known = by_id_.find(charge_id); known != by_id_.end()) {
      Hear(known->second);
      status = absl::OkStatus();
    }
  }
  done(status);
}

void MemoryLimits::Settle(const std::string& charge_id, std::vector<int64_t> used, Done done) {
  {
    MutexLock lock(&mu_);
    Begin();
    if (const auto known = by_id_.find(charge_id); known != by_id_.end()) {
      Release(*known->second, used);
      held_.erase(known->second);
      by_id_.erase(known);
    }
  }
  done(absl::OkStatus());
}

// `used`: of each, or nothing where it is not known; then what was reserved stays charged.
void MemoryLimits::Release(const Held& held, absl::Span<const int64_t> used) {
  TANDEM_CHECK(used.empty() || used.size() == held.items.size(), "as many as there are charges");
  for (size_t i = 0; i < held.items.size(); ++i) {
    const Item& item = held.items[i];
    if (!item.taken) continue;
    LimitCounter& counter = At(item.charge);
    if (item.charge.window == LimitWindow::kNone) {
      counter.Correct(-item.reserved, item.window_start);
    } else if (!used.empty()) {
      counter.Correct(used[i] - item.reserved, item.window_start);
    }
  }
}

void MemoryLimits::Begin() {
  now_ = clock_->Now();
  while (!held_.empty() && now_ - held_.front().heard_of >= options_.lease) {
    Release(held_.front(), {});
    by_id_.erase(held_.front().id);
    held_.pop_front();
  }
  if (counters_.size() >= 2 * counters_kept_ + kCountersKeptAnyway) ForgetIdle();
}

void MemoryLimits::Hear(std::list<Held>::iterator held) {
  held->heard_of = now_;
  held_.splice(held_.end(), held_, held);
}

// Of all there are, whenever they have doubled: so a call pays for a few of them.
void MemoryLimits::ForgetIdle() {
  absl::erase_if(counters_, [now = now_](auto& entry) {
    entry.second.Advance(now);
    return entry.second.idle();
  });
  counters_kept_ = counters_.size();
}

size_t MemoryLimits::counters() {
  MutexLock lock(&mu_);
  Begin();
  ForgetIdle();
  return counters_.size();
}

size_t MemoryLimits::charges() {
  MutexLock lock(&mu_);
  Begin();
  return held_.size();
}

}  // namespace tandem
