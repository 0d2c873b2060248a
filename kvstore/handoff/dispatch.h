#pragma once
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kvstore/handoff/handoff.h"
#include "kvstore/handoff/messages.h"
#include "kvstore/handoff/sender_machine.h"
#include "kvstore/transport/transport.h"
#include "kvstore/types.h"

namespace tandem {

// One handoff as its sender sees it: data, and what to push next.
//   threads guarded by the sender's lock, but for `cancelled`
struct Dispatch {
  HandoffKey key;
  std::string peer;
  SenderState state = SenderState::kLinking;
  uint32_t prompt_tokens = 0;
  std::vector<BlockId> blocks;  // that the prompt needs, in order
  absl::Time deadline, next_renewal;
  absl::Time linking_since, completing_since;
  absl::Time state_since;
  HandoffSender::Done done;

  std::vector<uint32_t> ready;  // per layer: blocks whose KV is there
  std::vector<uint32_t> taken;  // per layer: blocks pushed, being pushed, or held by the receiver
  bool finished = false;        // the engine called Finish
  std::vector<FirstToken> first_tokens;

  LinkName link;  // that it is reserved on
  uint64_t generation = 0;
  absl::Time first_push = absl::InfiniteFuture();
  uint64_t bytes = 0;   // pushed
  uint32_t frames = 0;  // pushed

  bool queued = false;                 // in its peer's queue
  uint32_t pushing = 0;                // threads that read `blocks` right now
  std::atomic<bool> cancelled{false};  // ended: a push that runs should not wait for the peer
  absl::Status outcome;

  // Notes that the KV of all tokens before `upto` is there in `layer`.
  void MarkReady(uint32_t layer, uint32_t upto, uint32_t block_tokens);
  // Ready and not taken, of the lowest such layer; at most `max_blocks` blocks.
  std::optional<FramePlace> NextFrame(uint32_t max_blocks) const;
  // Of a frame that a thread is about to push, then of one that it has: with its bytes, or 0 where
  // it failed.
  void Take(const FramePlace& place);
  void GiveBack(uint64_t payload_bytes);
  bool AllPushed() const;
  // InvalidArgument unless the receiver asked for the rest of the prompt's blocks.
  absl::Status Accept(const ReservedMessage& reserved);
};

}  // namespace tandem
