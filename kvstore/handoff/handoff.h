#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "kvstore/types.h"

// The facade that an engine sees of a handoff: moving one prompt's KV from the worker that computed
// it to the worker that decodes. docs/KV.md has the protocol; tandem/kv/v1/kv.proto the messages.
namespace tandem {

// One try of one request. A frame or message of another attempt is never taken for this one.
struct HandoffKey {
  std::string request_id;
  uint32_t attempt = 0;
  friend bool operator==(const HandoffKey&, const HandoffKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const HandoffKey& key) {
    return H::combine(std::move(h), key.request_id, key.attempt);
  }
};

// What the prefill worker sampled for one output; the decode worker goes on behind it.
struct FirstToken {
  uint32_t output_index = 0;
  int32_t token_id = 0;
  bool ended = false;  // nothing is left to decode for this output
};

struct HandoffSent {
  uint64_t bytes = 0;       // of KV payload
  absl::Duration duration;  // from the first pushed byte to the receiver's Completed
  std::string transport;    // of the link: shm or tcp
};

struct HandoffReceived {
  std::vector<FirstToken> first_tokens;
  uint64_t bytes = 0;
  std::string transport;  // of the link: shm or tcp
};

// Sends KV of finished layers while later layers are still computed.
//   life    Begin .. LayerReady* .. Finish; Abort may come at any time after Begin. `done` is
//           called exactly once a Begin, from an I/O thread; after it no block is read any more.
//   order   LayerReady(layer, upto) says that the KV of all tokens before `upto` is in the cache
//           for that layer; calls for one layer come with growing `upto`. The sender pushes whole
//           blocks, and the last, partly filled one with the prompt's last tokens.
//   errors  in `done`: FailedPrecondition layouts differ (names the field), Unavailable no such
//           peer or it is full, DeadlineExceeded, DataLoss (digest), Cancelled after Abort
//   threads Begin, LayerReady, Finish and Abort are called by one thread (the engine's) and never
//           block: they post to the sender's own threads
class HandoffSender {
 public:
  using Done = std::function<void(absl::StatusOr<HandoffSent>)>;

  virtual ~HandoffSender() = default;
  // `blocks` hold the prompt's KV, in order; `peer` is the receiver's handoff address.
  virtual void Begin(const HandoffKey& key, const std::string& peer, uint32_t prompt_tokens,
                     std::vector<BlockId> blocks, absl::Time deadline, Done done) = 0;
  virtual void LayerReady(const HandoffKey& key, uint32_t layer, uint32_t upto) = 0;
  virtual void Finish(const HandoffKey& key, std::vector<FirstToken> first_tokens) = 0;
  virtual void Abort(const HandoffKey& key) = 0;
};

// Receives KV into blocks that the engine has reserved.
//   life    [Announce .. asked ..] Expect .. (done | Cancel). `done` is called exactly once an
//           Expect, from an I/O thread (after Cancel with status Cancelled); until then the blocks
//           belong to the receiver, after it they are the engine's and are never written again. A
//           request that was announced and will not be expected is cancelled; `done` is not called
//           for it.
//   errors  in `done`: DeadlineExceeded the sender never came or its lease ended, Aborted the
//           sender gave up, DataLoss, Unavailable the link broke, Cancelled
//   threads Announce, Expect and Cancel are called by one thread (the engine's) and never block
class HandoffReceiver {
 public:
  using Done = std::function<void(absl::StatusOr<HandoffReceived>)>;
  using Asked = std::function<void()>;

  virtual ~HandoffReceiver() = default;
  // The request is here: until Expect, Cancel or the deadline its sender may wait for blocks, where
  // one that nothing is known of is refused after a second. `asked` is called from an I/O thread,
  // at least once if the sender asks to hand over before the request is expected: it has started,
  // and blocks reserved now are filled without waiting for anything else.
  virtual void Announce(const HandoffKey& key, absl::Time deadline, Asked asked) = 0;
  // `blocks` have room for the prompt: the first `held_blocks` of it are already filled.
  virtual void Expect(const HandoffKey& key, uint32_t prompt_tokens, std::vector<BlockId> blocks,
                      uint32_t held_blocks, absl::Time deadline, Done done) = 0;
  // `why` is a sentence's end that a sender which waits is told; it may reach the client first.
  virtual void Cancel(const HandoffKey& key, absl::string_view why) = 0;
};

}  // namespace tandem
