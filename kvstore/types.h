#pragma once
#include <cstdint>
#include <string>

#include "absl/types/span.h"

// The few types that every part of KV shares.
namespace tandem {

enum class BlockId : uint32_t {};  // index inside one pool, in [0, blocks)

// Geometry of a worker's KV cache: the fields of tandem.kv.v1.KvLayout, which two workers compare
// when they link.
struct KvLayout {
  std::string kv_abi;  // hex SHA-256 over all that must agree for blocks to be interchangeable
  std::string dtype;   // "f32"
  uint32_t block_tokens = 16;
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t version = 0;  // order of the bytes inside a slice
  std::string weights_digest, tokenizer_digest, numerics_class;
  uint32_t tensor_parallel = 1;

  // Bytes of one layer of one block: k and v of `block_tokens` tokens.
  size_t slice_bytes() const;
};

// Blocks that hold so many tokens. requires: the answer fits 32 bits
constexpr uint32_t BlocksFor(uint64_t tokens, uint32_t block_tokens) {
  return static_cast<uint32_t>((tokens + block_tokens - 1) / block_tokens);
}

// The memory behind the block ids of one pool. A block is `layers` slices; one slice holds k and v
// of block_tokens tokens for one layer.
//   shape   layers x blocks slices of slice_bytes each; host-addressable
//   life    the slices live as long as this object, and never move
//   threads Slice() may be called by all; who holds a block may write it, and whoever shares it may
//           read it (kvstore/pool/block_pool.h counts holders, not this class)
class BlockMemory {
 public:
  virtual ~BlockMemory() = default;
  virtual const KvLayout& layout() const = 0;
  virtual uint32_t blocks() const = 0;
  virtual absl::Span<uint8_t> Slice(uint32_t layer, BlockId block) = 0;
  // Zeroes a block in all layers: what a new owner gets holds nothing of the last one's.
  virtual void Clear(BlockId block) = 0;
  // `to` holds what `from` does, in all layers, to the last byte. They are two.
  virtual void Copy(BlockId from, BlockId to) = 0;
};

}  // namespace tandem
