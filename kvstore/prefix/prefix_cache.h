#pragma once
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/block_hash.h"
#include "kvstore/pool/block_pool.h"

namespace tandem {

// Keeps full blocks of KV for the next request that begins alike, and hands out a pool's blocks:
// whoever uses it takes and returns blocks here, never at the pool.
//   shape   a forest: a block's key names its tokens and all before them, its parent is the block
//           before it. A block is evicted only after its children
//   life    free --Acquire--> filling --Insert--> ready, in use --last Release--> ready, unused
//           --evicted--> free. A block that was not inserted is free after its last Release.
//           Free, filling and ready blocks always sum to the pool's
//   order   eviction takes the leaf that has been unused for longest
//   threads one at a time; nobody else may acquire, share or release the pool's blocks meanwhile
class PrefixCache {
 public:
  // How much of a chain is here.
  struct Match {
    uint32_t blocks = 0;  // of the chain's first
    uint32_t in_use = 0;  // of these: taking them leaves available() as it is
  };

  explicit PrefixCache(BlockPool* pool);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  Match Find(absl::Span<const BlockKey> keys) const;
  // The blocks of these keys, for one more user. requires: Find says that all are here
  std::vector<BlockId> Take(absl::Span<const BlockKey> keys);

  // New blocks, evicting what has to be. Unavailable, and nothing changes, beyond available().
  absl::Status Acquire(absl::Span<BlockId> out);
  void Share(BlockId id);  // one more user
  void Release(absl::Span<const BlockId> ids);

  // `block`, in use, holds what `key` names, and is never written again. Without effect where the
  // key has a block already. `parent` is null for a chain's first block; false where its block is
  // not here.
  bool Insert(const BlockKey* parent, const BlockKey& key, BlockId block);

  // How many more are available, at least, once one user of each of these has released it. They
  // are in the order of their chain.
  uint32_t AvailableWithout(absl::Span<const BlockId> ids) const;

  // For who holds `block`, full of what `key` names and inserted: the block that stands in the
  // cache, in its place. One user of the other goes over to it, so that nobody pins two that are
  // equal.
  BlockId Exchange(const BlockKey& key, BlockId block);

  uint32_t available() const { return pool_->free_blocks() + evictable_; }
  uint32_t ready() const { return static_cast<uint32_t>(index_.size()); }
  uint64_t evicted() const { return evicted_; }  // blocks, since the start

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Node {
    BlockKey key;
    BlockId block{};
    uint32_t parent = kNone;
    uint32_t children = 0;
    uint32_t users = 0;
    uint32_t pinned_children = 0;
    uint64_t used = 0;  // when it was last unpinned, by tick_
    bool pinned() const { return users > 0 || pinned_children > 0; }
  };

  uint32_t NodeOf(BlockId id) const { return by_block_[static_cast<uint32_t>(id)]; }
  void Use(uint32_t node);
  void Unuse(uint32_t node);
  // What follows for the nodes above from one that has just become pinned, or unpinned.
  void OnPinned(uint32_t node);
  void OnUnpinned(uint32_t node);
  void EvictOne();

  BlockPool* const pool_;
  std::vector<Node> nodes_;
  std::vector<uint32_t> free_nodes_;
  std::vector<uint32_t> by_block_;  // node, or kNone
  absl::flat_hash_map<BlockKey, uint32_t> index_;
  std::set<std::pair<uint64_t, uint32_t>> leaves_;  // (used, node): unpinned and without children
  uint32_t evictable_ = 0;                          // nodes that are not pinned
  uint64_t tick_ = 0;
  uint64_t evicted_ = 0;
};

}  // namespace tandem
