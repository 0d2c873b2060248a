#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "kvstore/handoff/courier.h"
#include "kvstore/handoff/dispatch.h"
#include "kvstore/handoff/handoff.h"
#include "kvstore/handoff/messages.h"
#include "kvstore/handoff/sender_link.h"
#include "kvstore/transport/transport.h"
#include "kvstore/types.h"

namespace tandem {

struct SenderOptions {
  Incarnation incarnation{};                  // of this process
  std::string name;                           // this worker's address, for the peers' logs
  uint64_t frame_bytes = 256 << 10;           // payload that a frame aims at; at least one block
  uint32_t max_handoffs = 4096;               // open at once
  uint32_t max_peers = 256;                   // each has a thread, and more for its pushes
  absl::Duration renewal = absl::Seconds(2);  // of leases, and of unanswered messages
  absl::Duration link_timeout = absl::Seconds(3);       // of one try to link
  absl::Duration link_patience = absl::Seconds(4);      // how long a handoff waits for a link
  absl::Duration backoff_min = absl::Milliseconds(50);  // between tries, doubling
  absl::Duration backoff_max = absl::Seconds(2);
  absl::Duration push_stall = absl::Seconds(5);     // without a byte of progress
  absl::Duration push_timeout = absl::Seconds(10);  // of a frame, and of Complete's answer
  absl::Duration idle = absl::Minutes(5);           // then a peer's link and thread end
  absl::Duration tick = absl::Milliseconds(20);     // how late a timer may be
  // Told how long a handoff was in a state that it leaves. Called with a lock held, by any thread:
  // it only counts.
  std::function<void(SenderState, absl::Duration)> on_phase = [](SenderState, absl::Duration) {};
};

struct SenderCounters {
  uint64_t completed = 0, failed = 0;  // handoffs
  uint64_t bytes = 0, frames = 0;      // pushed
  uint64_t links_made = 0, links_lost = 0;
  uint32_t open = 0;  // handoffs now
};

// The sending side of all handoffs of one process. A link to a peer is made with the first handoff
// to it and made anew, with a new epoch, when it breaks. One thread a peer links and pushes; a link
// of several connections has more that push, one less than it has connections.
//   life    `memory`, the transports and `door` outlive it. The destructor ends what is open with
//           Cancelled, and returns when no block is read any more
//   errors  as HandoffSender says; also Unavailable when max_handoffs or max_peers is reached,
//           or a new peer can have no thread
//   threads any
class Sender final : public HandoffSender {
 public:
  Sender(BlockMemory* memory, Transports transports, ControlDoor* door,
         const SenderOptions& options);
  ~Sender() override;

  void Begin(const HandoffKey& key, const std::string& peer, uint32_t prompt_tokens,
             std::vector<BlockId> blocks, absl::Time deadline, Done done) override;
  void LayerReady(const HandoffKey& key, uint32_t layer, uint32_t upto) override;
  void Finish(const HandoffKey& key, std::vector<FirstToken> first_tokens) override;
  void Abort(const HandoffKey& key) override;

  SenderCounters counters() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Entry = std::shared_ptr<Dispatch>;  // shared with the thread that pushes

  struct Peer {
    std::string address;
    std::thread thread;
    CondVar changed;          // there is something to do for its threads
    SenderLink link;          // null pointers while down
    bool broken = false;      // the link is to be torn down
    uint32_t handoffs = 0;    // open ones
    std::deque<Entry> queue;  // have something to push
    int failures = 0;         // to link, in a row
    absl::Time next_try = absl::InfinitePast();
    LinkName closed;          // whose control stream ended last
    absl::Status last_error;  // why the link broke, or could not be made
    bool finished = false;    // its thread has ended: nobody needed it for long
    bool told = false;        // the log, why a better transport does not reach it
  };

  absl::StatusOr<Peer*> PeerFor(const std::string& address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Entry Find(const HandoffKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Each peer's thread, with those that only push while its link is up.
  using Pushers = std::vector<std::thread>;
  struct Work {
    enum class Kind { kStop, kLink, kTearDown, kPush };
    Kind kind = Kind::kStop;
    Entry entry;  // to push
  };
  void Run(Peer* peer) ABSL_LOCKS_EXCLUDED(mu_);
  Work WaitForWork(Peer* peer) ABSL_LOCKS_EXCLUDED(mu_);
  Pushers MakeLink(Peer* peer) ABSL_LOCKS_EXCLUDED(mu_);
  Pushers StartPushers(Peer* peer, const SenderLink& link);
  void RunPusher(Peer* peer, const LinkName& link) ABSL_LOCKS_EXCLUDED(mu_);
  Entry NextToPush(Peer* peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);  // null: nothing to push
  void PushOne(Peer* peer, const Entry& entry) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status PushFrame(const SenderLink& link, const Dispatch& entry, const FramePlace& place)
      ABSL_LOCKS_EXCLUDED(mu_);
  void TearDown(Peer* peer, Pushers* pushers) ABSL_LOCKS_EXCLUDED(mu_);

  // Takes one step of the table and carries out its actions. `why` is the outcome if it ends here.
  void Step(const Entry& entry, SenderEvent event, const absl::Status& why = absl::OkStatus())
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Queues what can be pushed, or takes the step to Complete.
  void Advance(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReportIfQuiet(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Send(const Peer& peer, ToReceiver message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnMessage(const std::string& address, const LinkName& link, const ToSender& message)
      ABSL_LOCKS_EXCLUDED(mu_);
  void BreakLink(Peer& peer, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnControlClosed(const std::string& address, const LinkName& link, const absl::Status& why)
      ABSL_LOCKS_EXCLUDED(mu_);
  void Tick() ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<Entry> EntriesOf(const Peer& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  BlockMemory* const memory_;
  const Transports transports_;
  ControlDoor* const door_;
  const SenderOptions options_;
  const LinkOffer offer_;
  const uint64_t kv_abi_digest_;

  mutable Mutex mu_;
  absl::flat_hash_map<HandoffKey, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::unique_ptr<Peer>> peers_ ABSL_GUARDED_BY(mu_);  // by address
  SenderCounters counters_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  Courier courier_;
};

}  // namespace tandem
