#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "kvstore/types.h"

namespace tandem {

// Hands out the KV blocks of one BlockMemory and counts their users.
// It owns ids only; the bytes belong to the memory (kvstore/types.h).
//   units   every count is in blocks, never in tokens or bytes
//   life    free --Acquire--> held(1) --Share--> held(n) --Release--> free. A block's generation
//           grows by one each time it is acquired, so (id, generation) names one tenancy for ever
//   errors  Unavailable when fewer blocks are free than wanted: nothing is taken, so a caller may
//           wait or evict and retry. Sharing or releasing a free block is the caller's bug and
//           aborts
//   threads all methods may run at once; none blocks for long. Acquire is O(blocks wanted) and
//           allocates nothing
class BlockPool {
 public:
  struct Options {
    uint32_t blocks = 0;  // > 0
  };
  static absl::StatusOr<std::unique_ptr<BlockPool>> Create(Options options);

  // Fills all of `out`, or leaves the pool as it was.
  absl::Status Acquire(absl::Span<BlockId> out) ABSL_LOCKS_EXCLUDED(mu_);
  // One more holder; requires: held.
  void Share(BlockId id) ABSL_LOCKS_EXCLUDED(mu_);
  // One holder less of each; requires: held. An id that comes twice loses two holders.
  void Release(absl::Span<const BlockId> ids) ABSL_LOCKS_EXCLUDED(mu_);

  // How often the block was acquired; 0 before the first time.
  uint64_t generation(BlockId id) const ABSL_LOCKS_EXCLUDED(mu_);
  uint32_t holders(BlockId id) const ABSL_LOCKS_EXCLUDED(mu_);  // 0: free
  uint32_t free_blocks() const ABSL_LOCKS_EXCLUDED(mu_);
  uint32_t blocks() const { return blocks_; }

 private:
  struct Slot {
    uint32_t holders = 0;
    uint64_t generation = 0;
  };

  explicit BlockPool(Options options);
  Slot& SlotOf(BlockId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const uint32_t blocks_;
  mutable Mutex mu_;
  // Invariant: free_.size() + |{i : slots_[i].holders > 0}| == slots_.size().
  std::vector<BlockId> free_ ABSL_GUARDED_BY(mu_);  // used as a stack
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mu_);    // by BlockId
};

}  // namespace tandem
