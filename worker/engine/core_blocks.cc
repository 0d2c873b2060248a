// The blocks of sequences: found in the prefix cache or new, cleared, shared, given back.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "worker/engine/core.h"

namespace tandem {

// Of the tokens that it has, and of as much of its output as the look-ahead covers.
uint32_t EngineCore::BlocksAtAdmission(const Sequence& sequence) const {
  const EngineRequest& request = sequence.request();
  const uint32_t forks = sequence.most_resumed();
  uint64_t tokens = uint64_t{sequence.computed()} + sequence.pending() + forks;
  if (request.role != Role::kPrefill) {
    tokens += std::min(options_.lookahead_tokens, request.max_tokens - sequence.produced() - forks);
  }
  return BlocksFor(tokens, limits_.block_tokens);
}

// Those that a handoff reads or writes.
std::vector<BlockId> EngineCore::GivenBlocks(const Sequence& sequence) const {
  const auto first = sequence.blocks.begin();
  return {first, first + BlocksFor(sequence.given_tokens(), limits_.block_tokens)};
}

// Of the outputs that are made of it, besides its own `blocks` and those that they share with it.
uint32_t EngineCore::BlocksOfForks(const Sequence& sequence, uint32_t blocks) const {
  const EngineRequest& request = sequence.request();
  const uint32_t shared = sequence.prompt_tokens() / limits_.block_tokens;
  return (SequencesNeeded(request) - 1) * (blocks - shared);
}

void EngineCore::AcquireBlocks(absl::Span<BlockId> out) {
  const uint64_t evicted = cache_.evicted();
  TANDEM_CHECK(cache_.Acquire(out).ok(), "the plan counted on blocks that are not free");
  if (parts_.metrics != nullptr) parts_.metrics->OnEvicted(cache_.evicted() - evicted);
}

void EngineCore::TakeForkBlocks(Sequence& sequence) {
  const uint32_t own = static_cast<uint32_t>(sequence.blocks.size());
  sequence.fork_blocks.resize(BlocksOfForks(sequence, own));
  AcquireBlocks(absl::MakeSpan(sequence.fork_blocks));
}

// Whole blocks of its tokens that it need not compute. The last token is always computed, since the
// next one is drawn from its logits; log-probabilities of the prompt need the logits of all.
uint32_t EngineCore::ReusableBlocks(const Sequence& sequence) const {
  const EngineRequest& request = sequence.request();
  if (!options_.prefix_cache || request.cache_bypass) return 0;
  if (sequence.wants_prompt_logprobs()) return 0;
  return (sequence.pending() - 1) / limits_.block_tokens;
}

PrefixCache::Match EngineCore::FindPrefix(Sequence& sequence) const {
  return cache_.Find(sequence.Keys(ReusableBlocks(sequence), limits_.block_tokens));
}

void EngineCore::TakePrefix(Sequence& sequence) {
  const uint32_t looked_for = ReusableBlocks(sequence) * limits_.block_tokens;
  const uint32_t hits = FindPrefix(sequence).blocks;
  const uint32_t tokens = hits * limits_.block_tokens;
  sequence.blocks = cache_.Take(sequence.Keys(hits, limits_.block_tokens));
  sequence.clean_blocks = sequence.cached_blocks = hits;
  if (!sequence.awaits_handoff()) sequence.Computed(tokens);
  if (sequence.preempted) {
    const uint32_t lost = std::max(sequence.lost_tokens, tokens) - tokens;
    if (parts_.metrics != nullptr) parts_.metrics->OnRecompute(lost);
    return;
  }
  if (sequence.request().role == Role::kDecode) return;  // it would not have computed them
  sequence.cached_tokens = tokens;
  if (parts_.metrics != nullptr) parts_.metrics->OnPrefix(looked_for, tokens);
}

// Until it has `blocks`.
void EngineCore::TakeNewBlocks(Sequence& sequence, uint32_t blocks) {
  const size_t held = sequence.blocks.size();
  if (held >= blocks) return;
  sequence.blocks.resize(blocks);
  AcquireBlocks(absl::MakeSpan(sequence.blocks).subspan(held));
}

// Blocks are cleared right before their first row is computed: all at once at admission would keep
// the others waiting. Those behind the look-ahead are taken then, too.
void EngineCore::GrowBlocks(Sequence& sequence, uint32_t rows) {
  const uint32_t used = BlocksFor(sequence.computed() + rows, limits_.block_tokens);
  TakeNewBlocks(sequence, used);
  for (; sequence.clean_blocks < used; ++sequence.clean_blocks) {
    parts_.model->kv()->Clear(sequence.blocks[sequence.clean_blocks]);
  }
}

// Blocks that are full now are there for others, and are never written again.
void EngineCore::PublishBlocks(Sequence& sequence) {
  if (!options_.prefix_cache || sequence.request().cache_bypass) return;
  const uint32_t full = sequence.computed() / limits_.block_tokens;
  const absl::Span<const BlockKey> keys = sequence.Keys(full, limits_.block_tokens);
  bool again = true;
  while (sequence.cached_blocks < full) {
    const uint32_t i = sequence.cached_blocks;
    if (cache_.Insert(i > 0 ? &keys[i - 1] : nullptr, keys[i], sequence.blocks[i])) {
      ++sequence.cached_blocks;
      // Two that were computed at once are equal. Who held the other would pin both, and could then
      // need more than its whole need. A handoff reads the blocks that it was given.
      if (sequence.open_handoffs > 0) continue;
      sequence.blocks[i] = cache_.Exchange(keys[i], sequence.blocks[i]);
    } else {
      // Another's block stood for this one's last, and has been evicted: now this one's can.
      TANDEM_CHECK(std::exchange(again, false), "a chain can be inserted from its first block");
      sequence.cached_blocks = 0;
    }
  }
}

void EngineCore::ReturnBlocks(Sequence& sequence) {
  cache_.Release(sequence.blocks);
  cache_.Release(sequence.fork_blocks);
  sequence.blocks.clear();
  sequence.fork_blocks.clear();
}

}  // namespace tandem
