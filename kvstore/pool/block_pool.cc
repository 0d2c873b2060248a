#include "kvstore/pool/block_pool.h"

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tandem {

absl::StatusOr<std::unique_ptr<BlockPool>> BlockPool::Create(Options options) {
  if (options.blocks == 0) return absl::InvalidArgumentError("a block pool needs a block");
  return absl::WrapUnique(new BlockPool(options));
}

BlockPool::BlockPool(Options options) : blocks_(options.blocks), slots_(options.blocks) {
  free_.reserve(options.blocks);
  for (uint32_t i = options.blocks; i > 0; --i) free_.push_back(BlockId{i - 1});  // 0 is on top
}

BlockPool::Slot& BlockPool::SlotOf(BlockId id) {
  const auto index = static_cast<uint32_t>(id);
  TANDEM_CHECK(index < slots_.size(), "a block id belongs to this pool");
  return slots_[index];
}

absl::Status BlockPool::Acquire(absl::Span<BlockId> out) {
  MutexLock lock(&mu_);
  if (out.size() > free_.size()) {
    return absl::UnavailableError(
        absl::StrCat("KV block pool: want ", out.size(), " blocks, ", free_.size(), " free"));
  }
  for (BlockId& id : out) {
    id = free_.back();
    free_.pop_back();
    Slot& slot = SlotOf(id);
    slot.holders = 1;
    ++slot.generation;
  }
  return absl::OkStatus();
}

void BlockPool::Share(BlockId id) {
  MutexLock lock(&mu_);
  Slot& slot = SlotOf(id);
  TANDEM_CHECK(slot.holders > 0, "only a held block is shared");
  ++slot.holders;
}

void BlockPool::Release(absl::Span<const BlockId> ids) {
  MutexLock lock(&mu_);
  for (const BlockId id : ids) {
    Slot& slot = SlotOf(id);
    TANDEM_CHECK(slot.holders > 0, "only a held block is released");
    if (--slot.holders == 0) free_.push_back(id);
  }
}

uint64_t BlockPool::generation(BlockId id) const {
  MutexLock lock(&mu_);
  const auto index = static_cast<uint32_t>(id);
  TANDEM_CHECK(index < slots_.size(), "a block id belongs to this pool");
  return slots_[index].generation;
}

uint32_t BlockPool::holders(BlockId id) const {
  MutexLock lock(&mu_);
  const auto index = static_cast<uint32_t>(id);
  TANDEM_CHECK(index < slots_.size(), "a block id belongs to this pool");
  return slots_[index].holders;
}

uint32_t BlockPool::free_blocks() const {
  MutexLock lock(&mu_);
  return static_cast<uint32_t>(free_.size());
}

}  // namespace tandem
