// The line of those that wait for blocks, and the way back into it.
#include <algorithm>
#include <functional>
#include <utility>

#include "worker/engine/core.h"

namespace tandem {

bool EngineCore::Wanted(const Sequence& sequence) const {
  const auto session = sessions_.find(sequence.session());
  return !sequence.paused && session != sessions_.end() && !session->second.sink->congested();
}

// Whether it may be admitted, and keeps others behind it. While nobody wants its tokens it would
// only take blocks to lose them again; but a prefill worker waits for one whose KV it has.
bool EngineCore::InLine(const Sequence& sequence) const {
  return sequence.ready() && (Wanted(sequence) || sequence.awaits_handoff());
}

// Of one place are outputs of one request, and who was displaced with the one that displaced it, in
// whatever order they come back.
void EngineCore::Enqueue(std::unique_ptr<Sequence> sequence) {
  const auto before = [](const auto& a, const auto& b) {
    if (a->place < b->place || b->place < a->place) return a->place < b->place;
    return std::make_pair(-a->request().priority, a->id()) <
           std::make_pair(-b->request().priority, b->id());
  };
  waiting_.insert(std::upper_bound(waiting_.begin(), waiting_.end(), sequence, before),
                  std::move(sequence));
}

// Those that could be admitted, and the first of the line in any case.
void EngineCore::LookAtLine() {
  waiting_entries_.clear();
  uint64_t needed = 0;  // behind the first that does not fit nobody is admitted: no need to look
  for (const auto& sequence : waiting_) {
    if (needed > cache_.available()) return;
    const size_t ahead = held_.size() + waiting_entries_.size();
    if (ahead >= limits_.max_sequences && !waiting_entries_.empty()) return;
    if (!InLine(*sequence)) continue;
    ScheduleEntry entry = EntryOf(*sequence);
    const PrefixCache::Match match = FindPrefix(*sequence);
    entry.blocks_needed -= match.in_use;
    entry.position = match.blocks * limits_.block_tokens;
    entry.pending -= entry.position;
    waiting_entries_.push_back(entry);
    needed += entry.blocks_needed;
  }
}

// What preempting each would bring, if the plan could need it: most rounds have blocks enough.
void EngineCore::LookForBlocks() {
  uint64_t needed = 0;
  for (const ScheduleEntry& entry : held_entries_) {
    if (entry.runnable) needed += entry.blocks_needed;
  }
  const bool grows = needed > cache_.available();  // then nobody is admitted
  bool look = grows;
  if (!look && !waiting_entries_.empty()) {
    const ScheduleEntry& first = waiting_entries_.front();
    const bool fits = needed + first.blocks_needed <= cache_.available() &&
                      HeldSequences() + first.sequences <= limits_.max_sequences;
    look = !fits && std::any_of(held_entries_.begin(), held_entries_.end(),
                                [&first](const ScheduleEntry& held) {
                                  return held.preemptible && MayDisplace(first, held);
                                });
  }
  if (!look) return;
  for (size_t i = 0; i < held_.size(); ++i) {
    absl::Span<const BlockId> blocks = held_[i]->blocks;
    if (!grows) blocks.remove_prefix(WantedByTheFirst(*held_[i]));
    held_entries_[i].blocks_back = cache_.AvailableWithout(blocks) + held_[i]->fork_blocks.size();
  }
}

// How many of a held one's first blocks the first in line would share with it: these are not among
// the blocks that it needs, and are no room for those either.
uint32_t EngineCore::WantedByTheFirst(Sequence& held) const {
  const auto first = std::find_if(waiting_.begin(), waiting_.end(),
                                  [this](const auto& one) { return InLine(*one); });
  const uint32_t most = std::min(FindPrefix(**first).blocks, held.cached_blocks);
  const auto wanted = (*first)->Keys(most, limits_.block_tokens);
  const auto found = held.Keys(most, limits_.block_tokens);
  return static_cast<uint32_t>(std::mismatch(wanted.begin(), wanted.end(), found.begin()).first -
                               wanted.begin());
}

// Full blocks stay in the prefix cache while there is room, so most are found again.
void EngineCore::Preempt(const Plan& plan) {
  if (plan.preempt.empty()) return;
  Place behind;
  if (plan.displaced) {
    behind = (*std::find_if(waiting_.begin(), waiting_.end(), [this](const auto& one) {
               return InLine(*one);
             }))->place;
  }
  std::vector<std::unique_ptr<Sequence>> preempted;
  for (const uint32_t i : plan.preempt) preempted.push_back(std::move(held_[i]));
  std::erase(held_, nullptr);
  std::reverse(preempted.begin(), preempted.end());  // those with one place stand as before
  for (std::unique_ptr<Sequence>& sequence : preempted) {
    ReturnBlocks(*sequence);
    sequence->Preempt();
    if (plan.displaced && Wanted(*sequence)) {
      sequence->place = std::max(sequence->place, behind);
      ++sequence->displaced;
    }
    if (parts_.metrics != nullptr) parts_.metrics->OnPreempted();
    Enqueue(std::move(sequence));
  }
}

}  // namespace tandem
