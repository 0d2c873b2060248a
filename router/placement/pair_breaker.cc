#include "router/placement/pair_breaker.h"

#include <algorithm>

#include "base/log.h"

namespace tandem {

std::vector<WorkerPair> PairBreaker::Apart() const {
  const absl::Time now = options_.clock->Now();
  std::vector<WorkerPair> apart;
  MutexLock lock(&mu_);
  for (const auto& [pair, entry] : entries_) {
    if (now < entry.until) apart.push_back(pair);
  }
  return apart;
}

void PairBreaker::Tried(const WorkerPair& pair) {
  MutexLock lock(&mu_);
  const auto found = entries_.find(pair);
  if (found == entries_.end()) return;
  found->second.tried = true;
  found->second.until = options_.clock->Now() + found->second.pause;
}

void PairBreaker::Failed(const WorkerPair& pair) {
  const absl::Time now = options_.clock->Now();
  absl::Duration pause = options_.min_pause;
  {
    MutexLock lock(&mu_);
    // Workers come and go: whom nobody has tried for so long is forgotten.
    std::erase_if(entries_,
                  [&](const auto& one) { return one.second.until + 2 * options_.max_pause < now; });
    const auto [at, fresh] = entries_.try_emplace(pair);
    Entry& entry = at->second;
    // Of the requests that were there together when it failed first, only one counts.
    if (!fresh && !entry.tried) return;
    if (!fresh) pause = std::min(entry.pause * 2, options_.max_pause);
    entry = {pause, now + pause};
  }
  LogWarning("workers can't hand over to each other", {{"prefill_worker", pair.prefill},
                                                       {"decode_worker", pair.decode},
                                                       {"apart_for", absl::FormatDuration(pause)}});
}

void PairBreaker::Worked(const WorkerPair& pair) {
  MutexLock lock(&mu_);
  entries_.erase(pair);
}

}  // namespace tandem
