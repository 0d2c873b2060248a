#include "kvstore/handoff/reception.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kvstore/transport/wire.h"

namespace tandem {

void Reception::Clear(uint32_t layers) {
  came.assign(layers * blocks.size(), false);
  missing = uint64_t{layers} * (blocks.size() - held_blocks);
  for (uint32_t layer = 0; layer < layers; ++layer) Claim({layer, 0, held_blocks});
}

absl::Status Reception::CheckFrame(const FrameHeader& header, const KvLayout& layout,
                                   uint64_t kv_abi_digest) const {
  const FrameTag want{link, request_digest, key.attempt, generation, kv_abi_digest};
  if (header.tag != want) return absl::DataLossError("a KV frame has the tag of something else");
  const FramePlace& place = header.place;
  const auto wrong = [&place](absl::string_view why) {
    return absl::DataLossError(absl::StrCat("KV frame of layer ", place.layer, ", blocks ",
                                            place.first_block, " + ", place.blocks, ": ", why));
  };
  if (place.layer >= layout.layers) return wrong("there is no such layer");
  if (place.blocks == 0 || place.blocks > blocks.size() ||
      place.first_block > blocks.size() - place.blocks) {
    return wrong(absl::StrCat("the prompt has ", blocks.size(), " blocks"));
  }
  const auto first = came.begin() + place.layer * blocks.size() + place.first_block;
  const auto there = std::find(first, first + place.blocks, true);
  if (there != first + place.blocks) {
    return wrong(absl::StrCat("block ", place.first_block + (there - first), " is there already"));
  }
  if (header.payload_bytes != uint64_t{place.blocks} * layout.slice_bytes()) {
    return wrong(absl::StrCat("payload of ", header.payload_bytes, " bytes"));
  }
  return absl::OkStatus();
}

void Reception::Claim(const FramePlace& place) {
  const auto first = came.begin() + place.layer * blocks.size() + place.first_block;
  std::fill(first, first + place.blocks, true);
}

void Reception::Count(const FrameHeader& header) {
  missing -= header.place.blocks;
  bytes += header.payload_bytes;
  ++frames;
}

absl::Status Reception::CheckTotals() const {
  if (complete.bytes == bytes && complete.frames == frames) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the peer pushed ", complete.frames, " frames, ",
                                          complete.bytes, " bytes; ", frames, " frames, ", bytes,
                                          " bytes arrived"));
}

absl::Status ScatterAndVerify(const FrameHeader& header, absl::Span<const uint8_t> landed,
                              absl::Span<const BlockId> blocks, BlockMemory* memory) {
  std::vector<absl::Span<const uint8_t>> copied;
  copied.reserve(blocks.size());
  for (const BlockId block : blocks) {
    const absl::Span<uint8_t> slice = memory->Slice(header.place.layer, block);
    std::memcpy(slice.data(), landed.data(), slice.size());
    landed.remove_prefix(slice.size());
    copied.push_back(slice);
  }
  if (FrameDigest(header, copied) == header.digest) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("KV frame of layer ", header.place.layer,
                                          ": the digest of the copied bytes is wrong"));
}

}  // namespace tandem
