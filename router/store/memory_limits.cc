#include "router/store/memory_limits.h"

#include <algorithm>
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
  return counter;
}

// All are looked at before any is charged.
LimitVerdict MemoryLimits::Take(std::vector<Item>& items, absl::Span<const Ask> asks) {
  LimitVerdict verdict;
  verdict.admitted = true;
  for (size_t i = 0; i < items.size(); ++i) {
    verdict.states.push_back(At(items[i].charge).Look(asks[i].least));
    verdict.admitted &= verdict.states[i].fits || items[i].charge.shadow;
  }
  if (!verdict.admitted) return verdict;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!verdict.states[i].fits) continue;
    LimitCounter& counter = At(items[i].charge);
    const int64_t reserved = std::min(asks[i].cost, verdict.states[i].remaining);
    counter.Take(reserved);
    items[i].reserved += reserved;
    verdict.states[i] = counter.Look(0);
    verdict.states[i].fits = true;
    verdict.states[i].reserved = reserved;
  }
  return verdict;
}

void MemoryLimits::Reserve(const std::string& charge_id, std::vector<LimitCharge> charges,
                           Admitted done) {
  std::vector<Ask> asks;
  Held held{charge_id, {}, {}};
  for (LimitCharge& charge : charges) {
    asks.push_back({charge.cost, charge.least});
    held.items.push_back({std::move(charge)});
  }
  LimitVerdict verdict;
  {
    MutexLock lock(&mu_);
    Begin();
    if (const auto known = by_id_.find(charge_id); known != by_id_.end()) {
      Hear(known->second);
      verdict = Take(known->second->items, std::vector<Ask>(asks.size()));
      verdict.admitted = true;
    } else {
      for (const Item& item : held.items) At(item.charge).Resize(item.charge.amount);
      verdict = Take(held.items, asks);
      if (verdict.admitted) Hold(std::move(held), verdict);
    }
  }
  done(std::move(verdict));
}

void MemoryLimits::Hold(Held held, const LimitVerdict& verdict) {
  for (size_t i = 0; i < held.items.size(); ++i) {
    Item& item = held.items[i];
    item.taken = verdict.states[i].fits;
    item.taken_at = At(item.charge).taken_now();
  }
  held.heard_of = now_.steady;
  held_.push_back(std::move(held));
  by_id_.emplace(held_.back().id, std::prev(held_.end()));
}

// A place is held once, and a call belongs to the day and month in which it began.
bool MemoryLimits::Extends(const Item& item) {
  return item.taken && item.charge.window != LimitWindow::kNone &&
         At(item.charge).InWindow(item.taken_at);
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
      std::vector<Ask> asks(items.size());
      for (size_t i = 0; i < items.size(); ++i) {
        if (Extends(items[i])) asks[i] = {costs[i], costs[i]};
      }
      verdict = Take(items, asks);
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
      counter.Correct(-item.reserved, item.taken_at);
    } else if (!used.empty()) {
      counter.Correct(used[i] - item.reserved, item.taken_at);
    }
  }
}

void MemoryLimits::Begin() {
  now_ = {clock_->Now(), options_.wall->Now()};
  while (!held_.empty() && now_.steady - held_.front().heard_of >= options_.lease) {
    Release(held_.front(), {});
    by_id_.erase(held_.front().id);
    held_.pop_front();
  }
  if (counters_.size() >= 2 * counters_kept_ + kCountersKeptAnyway) ForgetIdle();
}

void MemoryLimits::Hear(std::list<Held>::iterator held) {
  held->heard_of = now_.steady;
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
