#pragma once
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "kvstore/types.h"

namespace tandem {

// A small layout whose slices are 2 * 4 * 2 * 8 * 4 = 512 bytes.
inline KvLayout SmallLayout() {
  return {.kv_abi = "abi",
          .dtype = "f32",
          .block_tokens = 4,
          .layers = 3,
          .kv_heads = 2,
          .head_dim = 8,
          .version = 1,
          .weights_digest = "w",
          .tokenizer_digest = "t",
          .numerics_class = "n"};
}

// Blocks in host memory. A test may look at, or hold up, each use of a slice.
class MemoryBlocks final : public BlockMemory {
 public:
  MemoryBlocks(const KvLayout& layout, uint32_t blocks)
      : layout_(layout), blocks_(blocks), bytes_(layout.slice_bytes() * layout.layers * blocks) {}

  const KvLayout& layout() const override { return layout_; }
  uint32_t blocks() const override { return blocks_; }
  absl::Span<uint8_t> Slice(uint32_t layer, BlockId block) override {
    if (on_slice) on_slice(layer, block);
    const size_t index = size_t{layer} * blocks_ + static_cast<uint32_t>(block);
    return absl::MakeSpan(bytes_).subspan(index * layout_.slice_bytes(), layout_.slice_bytes());
  }
  void Clear(BlockId block) override {
    for (uint32_t layer = 0; layer < layout_.layers; ++layer) {
      const absl::Span<uint8_t> slice = Slice(layer, block);
      std::memset(slice.data(), 0, slice.size());
    }
  }
  void Copy(BlockId from, BlockId to) override {
    for (uint32_t layer = 0; layer < layout_.layers; ++layer) {
      const absl::Span<uint8_t> source = Slice(layer, from);
      std::memcpy(Slice(layer, to).data(), source.data(), source.size());
    }
  }
  // Bytes that tell layer, block and `salt` from all others.
  void Fill(uint32_t layer, BlockId block, uint32_t salt) {
    uint32_t state = salt * 7919 + layer * 104729 + static_cast<uint32_t>(block) * 1299709 + 1;
    for (uint8_t& byte : Slice(layer, block)) {
      state = state * 1664525 + 1013904223;
      byte = static_cast<uint8_t>(state >> 24);
    }
  }

  std::function<void(uint32_t layer, BlockId block)> on_slice;  // set before threads use it

 private:
  const KvLayout layout_;
  const uint32_t blocks_;
  std::vector<uint8_t> bytes_;
};

}  // namespace tandem
