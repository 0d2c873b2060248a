#pragma once
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kvstore/types.h"
#include "worker/backend/cpu/huge_pages.h"

namespace tandem {

inline constexpr uint32_t kBlockTokens = 16;  // also the lanes of a kernel's vector

// Order of the bytes inside a slice: first k as [kv_heads][head_dim][16 tokens], so that a vector
// holds one dimension of 16 keys, then v as [kv_heads][16 tokens][head_dim], so that it holds 16
// dimensions of one value. Slots of tokens that are not there yet are not read.
inline constexpr uint32_t kCpuKvVersion = 1;

// The KV cache of a CPU backend, float32.
//   shape   [layers][blocks][slice]
//   threads as BlockMemory
class CpuBlockMemory final : public BlockMemory {
 public:
  // InvalidArgument for a layout that is not the CPU's, naming the field.
  static absl::StatusOr<std::unique_ptr<BlockMemory>> Create(const KvLayout& layout,
                                                             uint32_t blocks);

  const KvLayout& layout() const override { return layout_; }
  uint32_t blocks() const override { return blocks_; }
  absl::Span<uint8_t> Slice(uint32_t layer, BlockId block) override;
  void Clear(BlockId block) override;
  void Copy(BlockId from, BlockId to) override;

 private:
  CpuBlockMemory(const KvLayout& layout, uint32_t blocks, HugePages pages);

  const KvLayout layout_;
  const uint32_t blocks_;
  const size_t slice_bytes_;
  HugePages pages_;
};

KvLayout CpuKvGeometry(uint32_t layers, uint32_t kv_heads, uint32_t head_dim);

// Where the k and the v of one kv head start inside a slice.
struct KvSlice {
  float* base = nullptr;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;

  KvSlice(BlockMemory* kv, uint32_t layer, BlockId block)
      : base(reinterpret_cast<float*>(kv->Slice(layer, block).data())),
        kv_heads(kv->layout().kv_heads),
        head_dim(kv->layout().head_dim) {}

  float* Keys(uint32_t head) const { return base + size_t{head} * head_dim * kBlockTokens; }
  float* Values(uint32_t head) const {
    return base + (size_t{kv_heads} + head) * head_dim * kBlockTokens;
  }
};

}  // namespace tandem
