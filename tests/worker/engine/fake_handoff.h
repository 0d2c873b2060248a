#pragma once
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kvstore/handoff/handoff.h"

namespace tandem {

// Both ends of a handoff in one object, between two pools' memories: takes a copy of each block
// when LayerReady says that it is there, and delivers that once the sender has finished and the
// receiver expects it. It checks the order of calls, and that no block changed after its
// LayerReady; `faults` lists breaches.
// Nothing ends by itself: Deliver() does it, as the I/O threads of the real ones would. A sender
// that aborts ends its receiver too, ABORTED, whether that expects it already or only later.
class FakeHandoff final : public HandoffSender, public HandoffReceiver {
 public:
  FakeHandoff(BlockMemory* from, BlockMemory* to) : from_(from), to_(to) {}

  // HandoffSender
  void Begin(const HandoffKey& key, const std::string& peer, uint32_t prompt_tokens,
             std::vector<BlockId> blocks, absl::Time deadline, HandoffSender::Done done) override;
  void LayerReady(const HandoffKey& key, uint32_t layer, uint32_t upto) override;
  void Finish(const HandoffKey& key, std::vector<FirstToken> first_tokens) override;
  void Abort(const HandoffKey& key) override;

  // HandoffReceiver
  void Announce(const HandoffKey& key, absl::Time deadline, Asked asked) override;
  void Expect(const HandoffKey& key, uint32_t prompt_tokens, std::vector<BlockId> blocks,
              uint32_t held_blocks, absl::Time deadline, HandoffReceiver::Done done) override;
  void Cancel(const HandoffKey& key, absl::string_view why) override;

  // Ends what can end: aborted and cancelled ones, and pairs that are complete.
  void Deliver();
  // Ends one side's handoff with an error. False when it is not open.
  bool FailSend(const HandoffKey& key, absl::Status status);
  bool FailReceive(const HandoffKey& key, absl::Status status);

  std::vector<HandoffKey> sending() const;
  std::vector<HandoffKey> expecting() const;
  // Of the receiver: announced, and neither expected nor cancelled since.
  bool announced(const HandoffKey& key) const { return announced_.contains(NameOf(key)); }
  size_t open() const { return sends_.size() + receives_.size() + announced_.size(); }
  std::vector<std::string> faults;
  std::vector<std::string> peers;  // of each Begin
  uint32_t held_blocks = 0;        // of all Expects

 private:
  using Name = std::pair<std::string, uint32_t>;
  static Name NameOf(const HandoffKey& key) { return {key.request_id, key.attempt}; }
  struct Send {
    uint32_t prompt_tokens = 0;
    std::vector<BlockId> blocks;
    HandoffSender::Done done;
    std::map<uint32_t, uint32_t> upto;               // by layer
    std::map<uint32_t, std::vector<uint8_t>> taken;  // by layer: the first blocks' bytes
    std::optional<std::vector<FirstToken>> first_tokens;
    bool aborted = false;
  };
  struct Receive {
    uint32_t prompt_tokens = 0;
    std::vector<BlockId> blocks;
    uint32_t held_blocks = 0;
    HandoffReceiver::Done done;
    bool cancelled = false;
  };
  void Take(Send& send, uint32_t layer);
  void Copy(const Send& send, const Receive& receive);

  BlockMemory* const from_;
  BlockMemory* const to_;
  std::map<Name, Send> sends_;
  std::map<Name, Asked> announced_;
  std::map<Name, Receive> receives_;
  std::set<Name> given_up_;  // by their senders
};

}  // namespace tandem
