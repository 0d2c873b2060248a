#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvstore/handoff/handoff.h"
#include "tests/simulation/events.h"

namespace tandem {

// One life of a worker process: a worker that was killed and started again is another one.
using LifeId = uint64_t;

// All handoffs between simulated workers, as the facade shows them: blocks and outcomes travel with
// delays, may get lost, and die with either side. What the protocol itself does about that is the
// model check's business (tests/model); here it just ends both sides, each in its own time.
//   life    outlives the senders and receivers that it makes
//   threads one
class SimHandoffs {
 public:
  SimHandoffs(Events* events, uint64_t one_fails_in) : events_(events), fails_(one_fails_in) {}

  std::unique_ptr<HandoffSender> SenderOf(LifeId life, BlockMemory* memory);
  std::unique_ptr<HandoffReceiver> ReceiverOf(LifeId life, const std::string& address,
                                              BlockMemory* memory);
  // The process is gone: nobody calls its ends any more, its peers hear of it a moment later.
  void Died(LifeId life);
  // All links break: whatever is under way ends on both sides.
  void Break();

  // Sides whose `done` was not called.
  size_t open() const;
  std::vector<std::string> faults;

 private:
  class Sender;
  class Receiver;
  using Name = std::pair<std::string, uint32_t>;  // request id and attempt
  struct Sending {
    LifeId life = 0;
    std::string peer;
    BlockMemory* memory = nullptr;
    uint32_t prompt_tokens = 0;
    std::vector<BlockId> blocks;
    HandoffSender::Done done;
    std::map<uint32_t, std::vector<uint8_t>> taken;  // by layer: the first blocks' bytes
    std::optional<std::vector<FirstToken>> first_tokens;
    bool ending = false;  // its `done` is on its way
  };
  struct Receiving {
    LifeId life = 0;
    BlockMemory* memory = nullptr;
    HandoffReceiver::Asked asked;  // while announced
    std::vector<BlockId> blocks;   // once expected
    uint32_t held_blocks = 0;
    HandoffReceiver::Done done;
    bool ending = false;
  };
  // Receivers by attempt and life: a restarted worker knows nothing of what it was told before.
  using ReceiverName = std::pair<Name, LifeId>;

  void Arrive(const Name& name);
  void Deliver(const Name& name);
  void EndSend(const Name& name, absl::Status why);
  void EndReceive(const ReceiverName& name, absl::Status why);
  void Copy(const Sending& from, const Receiving& to);
  Receiving* PeerOf(const Sending& sending, const Name& name);
  absl::Duration Delay() { return events_->Between(absl::Microseconds(50), absl::Milliseconds(5)); }

  Events* const events_;
  uint64_t fails_;
  std::map<std::string, LifeId> at_;  // address -> who is there now
  std::map<Name, Sending> sends_;
  std::map<ReceiverName, Receiving> receives_;
};

}  // namespace tandem
