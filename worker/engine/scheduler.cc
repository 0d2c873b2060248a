#include "worker/engine/scheduler.h"

#include <algorithm>
#include <tuple>

namespace tandem {
namespace {

// Rows left for the prompts of one batch.
struct Room {
  uint32_t rows = 0;
  uint32_t logit_rows = 0;
};

bool StandsBefore(const ScheduleEntry& a, const ScheduleEntry& b) {
  return std::make_tuple(a.paused, -a.priority, a.arrival) <
         std::make_tuple(b.paused, -b.priority, b.arrival);
}

// Who of `held` gives up its blocks, and who must do without a row.
class Preemption {
 public:
  explicit Preemption(const View& view)
      : view_(view), free_blocks_(view.free_blocks), rests_(view.held.size()) {}

  void MakeRoomForGrowth() {
    std::vector<uint32_t> growing;
    for (uint32_t i = 0; i < view_.held.size(); ++i) {
      if (view_.held[i].runnable && view_.held[i].blocks_needed > 0) growing.push_back(i);
    }
    std::sort(growing.begin(), growing.end(), [this](uint32_t a, uint32_t b) {
      return StandsBefore(view_.held[a], view_.held[b]);
    });
    for (const uint32_t i : growing) {
      if (!rests_[i]) Grow(i);
    }
  }

  // requires: the first in line does not fit
  void MakeRoomForTheFirst() {
    const ScheduleEntry& first = view_.waiting.front();
    std::vector<uint32_t> candidates;
    for (uint32_t i = 0; i < view_.held.size(); ++i) {
      const ScheduleEntry& held = view_.held[i];
      if (held.preemptible && MayDisplace(first, held)) candidates.push_back(i);
    }
    std::sort(candidates.begin(), candidates.end(), [this](uint32_t a, uint32_t b) {
      return StandsBefore(view_.held[b], view_.held[a]);
    });
    uint64_t sequences = first.sequences;
    for (const ScheduleEntry& held : view_.held) sequences += held.sequences;
    uint64_t free_blocks = free_blocks_;
    size_t taken = 0;
    const auto fits = [&] {
      return free_blocks >= first.blocks_needed && sequences <= view_.limits.max_sequences;
    };
    for (; taken < candidates.size() && !fits(); ++taken) {
      free_blocks += view_.held[candidates[taken]].blocks_back;
      sequences -= view_.held[candidates[taken]].sequences;
    }
    if (!fits()) return;
    for (size_t i = 0; i < taken; ++i) Take(candidates[i]);
  }

  bool rests(uint32_t i) const { return rests_[i]; }
  bool starved() const { return starved_; }
  uint32_t free_blocks() const { return free_blocks_; }
  std::vector<uint32_t> preempted() && { return std::move(preempted_); }
  bool any() const { return !preempted_.empty(); }

 private:
  void Take(uint32_t i) {
    rests_[i] = true;
    preempted_.push_back(i);
    free_blocks_ += view_.held[i].blocks_back;
  }

  void Grow(uint32_t i) {
    const ScheduleEntry& entry = view_.held[i];
    while (free_blocks_ < entry.blocks_needed) {
      const ScheduleEntry* last = nullptr;
      for (uint32_t k = 0; k < view_.held.size(); ++k) {
        const ScheduleEntry& other = view_.held[k];
        if (!other.preemptible || rests_[k] || !StandsBefore(entry, other)) continue;
        if (last == nullptr || StandsBefore(*last, other)) last = &other;
      }
      if (last == nullptr) {
        rests_[i] = starved_ = true;
        return;
      }
      Take(static_cast<uint32_t>(last - view_.held.data()));
    }
    free_blocks_ -= entry.blocks_needed;
  }

  const View& view_;
  uint32_t free_blocks_;
  std::vector<bool> rests_;  // of `held`: preempted, or starved
  std::vector<uint32_t> preempted_;
  bool starved_ = false;
};

uint32_t Admissible(const View& view, uint32_t free_blocks) {
  uint32_t admit = 0;
  uint32_t sequences = 0;
  for (const ScheduleEntry& entry : view.held) sequences += entry.sequences;
  for (const ScheduleEntry& entry : view.waiting) {
    if (sequences + entry.sequences > view.limits.max_sequences) break;
    if (entry.blocks_needed > free_blocks) break;
    free_blocks -= entry.blocks_needed;
    sequences += entry.sequences;
    ++admit;
  }
  return admit;
}

uint32_t ChunkRows(const ScheduleEntry& entry, const Room& room, uint32_t block_tokens) {
  uint32_t most = room.rows;
  if (entry.all_logits) most = std::min(most, room.logit_rows);
  if (entry.pending <= most && room.logit_rows > 0) return entry.pending;
  const uint32_t limit = entry.position + std::min(most, entry.pending - 1);
  const uint32_t end = limit / block_tokens * block_tokens;
  return end > entry.position ? end - entry.position : 0;
}

}  // namespace

bool MayDisplace(const ScheduleEntry& first, const ScheduleEntry& held) {
  return held.paused || first.priority > held.priority + static_cast<int64_t>(held.displaced);
}

Plan MakePlan(const View& view) {
  Plan plan;
  Preemption preemption(view);
  preemption.MakeRoomForGrowth();
  if (!preemption.any() && !preemption.starved()) {
    plan.admit = Admissible(view, preemption.free_blocks());
    if (plan.admit == 0 && !view.waiting.empty()) preemption.MakeRoomForTheFirst();
    plan.displaced = preemption.any();
  }
  const uint32_t entries = static_cast<uint32_t>(view.held.size()) + plan.admit;
  const auto entry_at = [&](uint32_t i) -> const ScheduleEntry& {
    return i < view.held.size() ? view.held[i] : view.waiting[i - view.held.size()];
  };
  const auto runs = [&](uint32_t i) {
    return entry_at(i).runnable && !(i < view.held.size() && preemption.rests(i));
  };

  uint32_t decoding = 0;
  for (uint32_t i = 0; i < view.held.size(); ++i) decoding += runs(i) && !view.held[i].prefilling;
  const uint32_t budget = std::max(view.budget_tokens, decoding + view.limits.block_tokens);
  Room room = {std::min(budget, view.limits.max_rows) - decoding,
               view.limits.max_logit_rows - decoding};
  plan.work.reserve(entries);
  for (uint32_t i = 0; i < entries; ++i) {
    const ScheduleEntry& entry = entry_at(i);
    if (!runs(i)) continue;
    if (!entry.prefilling) {
      plan.work.push_back({i, 1});
      continue;
    }
    const uint32_t rows = ChunkRows(entry, room, view.limits.block_tokens);
    if (rows == 0) continue;
    plan.work.push_back({i, rows});
    room.rows -= rows;
    room.logit_rows -= entry.all_logits ? rows : (rows == entry.pending ? 1 : 0);
  }
  plan.preempt = std::move(preemption).preempted();
  return plan;
}

}  // namespace tandem
