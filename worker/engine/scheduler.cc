#include "worker/engine/scheduler.h"

#include <algorithm>

namespace tandem {
namespace {

// Rows left for the prompts of one batch.
struct Room {
  uint32_t rows = 0;
  uint32_t logit_rows = 0;
};

uint32_t Admissible(const View& view) {
  uint32_t admit = 0;
  uint32_t free_blocks = view.free_blocks;
  for (const ScheduleEntry& entry : view.waiting) {
    if (view.held.size() + admit >= view.limits.max_sequences) break;
    if (entry.blocks_needed > free_blocks) break;
    free_blocks -= entry.blocks_needed;
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

Plan MakePlan(const View& view) {
  Plan plan;
  plan.admit = Admissible(view);
  const uint32_t entries = static_cast<uint32_t>(view.held.size()) + plan.admit;
  const auto entry_at = [&](uint32_t i) -> const ScheduleEntry& {
    return i < view.held.size() ? view.held[i] : view.waiting[i - view.held.size()];
  };

  uint32_t decoding = 0;
  for (const ScheduleEntry& entry : view.held) decoding += entry.runnable && !entry.prefilling;
  const uint32_t budget = std::max(view.budget_tokens, decoding + view.limits.block_tokens);
  Room room = {std::min(budget, view.limits.max_rows) - decoding,
               view.limits.max_logit_rows - decoding};
  plan.work.reserve(entries);
  for (uint32_t i = 0; i < entries; ++i) {
    const ScheduleEntry& entry = entry_at(i);
    if (!entry.runnable) continue;
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
  return plan;
}

}  // namespace tandem
