#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kvstore/handoff/handoff.h"
#include "kvstore/handoff/messages.h"
#include "kvstore/handoff/receiver_machine.h"
#include "kvstore/transport/transport.h"
#include "kvstore/types.h"

namespace tandem {

// One handoff as its receiver sees it: data, and the questions about it that need nothing else.
//   threads guarded by the receiver's lock
struct Reception {
  HandoffKey key;
  ReceiverState state = ReceiverState::kUnknown;

  // From the peer's Reserve.
  LinkName link;  // {0, 0} until then
  uint32_t reserved_tokens = 0;
  std::string transport;  // of the link, from its reservation on

  // From the engine's Announce, then its Expect.
  HandoffReceiver::Asked asked;  // set while announced and neither expected nor cancelled
  absl::Time deadline = absl::InfiniteFuture();

  // From the engine's Expect.
  HandoffReceiver::Done done;  // set until reported
  bool expected = false;
  uint32_t prompt_tokens = 0;
  std::vector<BlockId> blocks;  // that the prompt needs, in order
  uint32_t held_blocks = 0;

  // While frames may come.
  uint64_t generation = 0;
  Bytes16 request_digest{};
  std::vector<bool> came;   // per layer and block: held, landed or being copied
  uint64_t missing = 0;     // slices that are neither held nor landed
  uint64_t bytes = 0;       // landed
  uint32_t frames = 0;      // landed
  uint32_t scattering = 0;  // transport threads that copy into `blocks` right now

  absl::Time park_end, lease_end;
  CompleteMessage complete;  // valid from kCompleting on

  // Once ended.
  absl::Status outcome;
  ToSender verdict;  // what the peer was told, or would be
  absl::Time forget_at;

  // All that is not held is missing.
  void Clear(uint32_t layers);
  // Every block of every layer is there.
  bool Covered() const { return missing == 0; }
  // DataLoss unless the frame is for this reservation and brings what has not come yet. Frames come
  // in any order: a link may have several connections.
  absl::Status CheckFrame(const FrameHeader& header, const KvLayout& layout,
                          uint64_t kv_abi_digest) const;
  // Of a frame that is to be copied: nothing else may bring the same. Then of one that was.
  void Claim(const FramePlace& place);
  void Count(const FrameHeader& header);
  // DataLoss unless `complete` tells of just what came.
  absl::Status CheckTotals() const;
};

// Copies a landed payload into the slices that its header names, then checks the digest over the
// copy: what a peer does to the window meanwhile can't be committed.
absl::Status ScatterAndVerify(const FrameHeader& header, absl::Span<const uint8_t> landed,
                              absl::Span<const BlockId> blocks, BlockMemory* memory);

}  // namespace tandem
