#include "kvstore/prefix/prefix_cache.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tandem {

PrefixCache::PrefixCache(BlockPool* pool) : pool_(pool), by_block_(pool->blocks(), kNone) {}

PrefixCache::~PrefixCache() {
  for (const auto& [key, node] : index_) pool_->Release({&nodes_[node].block, 1});
}

PrefixCache::Match PrefixCache::Find(absl::Span<const BlockKey> keys) const {
  Match match;
  for (const BlockKey& key : keys) {
    const auto it = index_.find(key);
    if (it == index_.end()) break;
    ++match.blocks;
    match.in_use += nodes_[it->second].pinned();
  }
  return match;
}

std::vector<BlockId> PrefixCache::Take(absl::Span<const BlockKey> keys) {
  std::vector<BlockId> blocks;
  blocks.reserve(keys.size());
  for (const BlockKey& key : keys) {
    const auto it = index_.find(key);
    TANDEM_CHECK(it != index_.end(), "only what Find has found can be taken");
    blocks.push_back(nodes_[it->second].block);
    Share(blocks.back());
  }
  return blocks;
}

absl::Status PrefixCache::Acquire(absl::Span<BlockId> out) {
  if (out.size() > available()) {
    return absl::UnavailableError(absl::StrCat("KV blocks: want ", out.size(), ", ",
                                               pool_->free_blocks(), " are free and ", evictable_,
                                               " could be evicted"));
  }
  while (pool_->free_blocks() < out.size()) EvictOne();
  return pool_->Acquire(out);
}

void PrefixCache::Share(BlockId id) {
  pool_->Share(id);
  if (NodeOf(id) != kNone) Use(NodeOf(id));
}

void PrefixCache::Release(absl::Span<const BlockId> ids) {
  for (const BlockId id : ids) {
    if (NodeOf(id) != kNone) Unuse(NodeOf(id));
  }
  pool_->Release(ids);
}

uint32_t PrefixCache::AvailableWithout(absl::Span<const BlockId> ids) const {
  uint32_t blocks = 0;
  uint32_t unpinned = kNone;  // whose child is unpinned without these
  for (size_t i = ids.size(); i > 0; --i) {
    const uint32_t at = NodeOf(ids[i - 1]);
    if (at == kNone) {
      blocks += pool_->holders(ids[i - 1]) == 1;
      continue;
    }
    const Node& node = nodes_[at];
    if (node.users > 1 || node.pinned_children > (unpinned == at ? 1u : 0u)) {
      unpinned = kNone;
      continue;
    }
    ++blocks;
    unpinned = node.parent;
  }
  return blocks;
}

bool PrefixCache::Insert(const BlockKey* parent, const BlockKey& key, BlockId block) {
  if (index_.contains(key)) return true;
  uint32_t above = kNone;
  if (parent != nullptr) {
    const auto it = index_.find(*parent);
    if (it == index_.end()) return false;
    above = it->second;
  }
  TANDEM_CHECK(NodeOf(block) == kNone, "a block has one key");
  Node node = {.key = key, .block = block, .parent = above, .users = pool_->holders(block)};
  TANDEM_CHECK(node.users > 0, "only a block in use can be inserted");
  pool_->Share(block);
  uint32_t at = static_cast<uint32_t>(nodes_.size());
  if (free_nodes_.empty()) {
    nodes_.push_back(node);
  } else {
    at = free_nodes_.back();
    free_nodes_.pop_back();
    nodes_[at] = node;
  }
  index_[key] = at;
  by_block_[static_cast<uint32_t>(block)] = at;
  ++evictable_;  // OnPinned takes it back
  OnPinned(at);
  if (above != kNone) ++nodes_[above].children;
  return true;
}

BlockId PrefixCache::Exchange(const BlockKey& key, BlockId block) {
  const auto it = index_.find(key);
  TANDEM_CHECK(it != index_.end(), "only what was inserted can be exchanged");
  const BlockId kept = nodes_[it->second].block;
  if (kept == block) return block;
  Share(kept);
  Release({&block, 1});
  return kept;
}

void PrefixCache::Use(uint32_t node) {
  const bool was = nodes_[node].pinned();
  ++nodes_[node].users;
  if (!was) OnPinned(node);
}

void PrefixCache::Unuse(uint32_t node) {
  TANDEM_CHECK(nodes_[node].users > 0, "a block has as many users as took it");
  --nodes_[node].users;
  if (!nodes_[node].pinned()) OnUnpinned(node);
}

void PrefixCache::OnPinned(uint32_t node) {
  for (;;) {
    Node& one = nodes_[node];
    --evictable_;
    if (one.children == 0) leaves_.erase({one.used, node});
    if (one.parent == kNone) return;
    Node& above = nodes_[one.parent];
    const bool was = above.pinned();
    ++above.pinned_children;
    if (was) return;
    node = one.parent;
  }
}

void PrefixCache::OnUnpinned(uint32_t node) {
  for (;;) {
    Node& one = nodes_[node];
    ++evictable_;
    one.used = ++tick_;
    if (one.children == 0) leaves_.insert({one.used, node});
    if (one.parent == kNone) return;
    Node& above = nodes_[one.parent];
    --above.pinned_children;
    if (above.pinned()) return;
    node = one.parent;
  }
}

void PrefixCache::EvictOne() {
  TANDEM_CHECK(!leaves_.empty(), "what can be evicted has a leaf");
  const uint32_t at = leaves_.begin()->second;
  leaves_.erase(leaves_.begin());
  const Node node = nodes_[at];
  index_.erase(node.key);
  by_block_[static_cast<uint32_t>(node.block)] = kNone;
  free_nodes_.push_back(at);
  --evictable_;
  ++evicted_;
  pool_->Release({&node.block, 1});
  if (node.parent == kNone) return;
  Node& above = nodes_[node.parent];
  if (--above.children == 0 && !above.pinned()) leaves_.insert({above.used, node.parent});
}

}  // namespace tandem
