#include "worker/backend/cpu/block_memory.h"

#include <cstring>
#include <limits>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

absl::Status WantField(absl::string_view field, uint32_t want, uint32_t found) {
  if (want == found) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("KV layout: ", field, " is ", found, ", the CPU backend has ", want));
}

}  // namespace

KvLayout CpuKvGeometry(uint32_t layers, uint32_t kv_heads, uint32_t head_dim) {
  KvLayout layout;
  layout.dtype = "f32";
  layout.block_tokens = kBlockTokens;
  layout.layers = layers;
  layout.kv_heads = kv_heads;
  layout.head_dim = head_dim;
  layout.version = kCpuKvVersion;
  return layout;
}

absl::StatusOr<std::unique_ptr<BlockMemory>> CpuBlockMemory::Create(const KvLayout& layout,
                                                                    uint32_t blocks) {
  if (layout.dtype != "f32") {
    return absl::InvalidArgumentError(
        absl::StrCat("KV layout: dtype is \"", layout.dtype, "\", the CPU backend has \"f32\""));
  }
  RETURN_IF_ERROR(WantField("block_tokens", kBlockTokens, layout.block_tokens));
  RETURN_IF_ERROR(WantField("version", kCpuKvVersion, layout.version));
  if (blocks == 0 || layout.slice_bytes() == 0 || layout.layers == 0) {
    return absl::InvalidArgumentError("KV layout: a cache without blocks, layers or heads");
  }
  const size_t per_block = layout.slice_bytes() * layout.layers;
  if (per_block > std::numeric_limits<size_t>::max() / 2 / blocks) {
    return absl::ResourceExhaustedError(
        absl::StrCat("KV cache: no memory for ", blocks, " blocks of ", per_block, " bytes"));
  }
  absl::StatusOr<HugePages> pages = HugePages::Map(per_block * blocks);
  if (!pages.ok()) return Annotate(pages.status(), "KV cache (kv.memory_bytes)");
  return absl::WrapUnique(new CpuBlockMemory(layout, blocks, *std::move(pages)));
}

CpuBlockMemory::CpuBlockMemory(const KvLayout& layout, uint32_t blocks, HugePages pages)
    : layout_(layout),
      blocks_(blocks),
      slice_bytes_(layout.slice_bytes()),
      pages_(std::move(pages)) {}

absl::Span<uint8_t> CpuBlockMemory::Slice(uint32_t layer, BlockId block) {
  const size_t index = size_t{layer} * blocks_ + static_cast<uint32_t>(block);
  return {pages_.data() + index * slice_bytes_, slice_bytes_};
}

void CpuBlockMemory::Clear(BlockId block) {
  for (uint32_t layer = 0; layer < layout_.layers; ++layer) {
    std::memset(Slice(layer, block).data(), 0, slice_bytes_);
  }
}

void CpuBlockMemory::Copy(BlockId from, BlockId to) {
  for (uint32_t layer = 0; layer < layout_.layers; ++layer) {
    std::memcpy(Slice(layer, to).data(), Slice(layer, from).data(), slice_bytes_);
  }
}

}  // namespace tandem
