#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "kvstore/handoff/courier.h"
#include "kvstore/handoff/handoff.h"
#include "kvstore/handoff/messages.h"
#include "kvstore/handoff/reception.h"
#include "kvstore/transport/transport.h"
#include "kvstore/types.h"

namespace tandem {

struct ReceiverOptions {
  Incarnation incarnation{};        // of this process
  uint64_t window_bytes = 8 << 20;  // of each link's landing windows together, at most
  uint32_t max_links = 64;
  uint32_t max_parked = 1024;                        // Reserves of requests that are not here
  uint32_t max_remembered = 8192;                    // ended handoffs
  absl::Duration lease = absl::Seconds(10);          // of a reservation that is not renewed
  absl::Duration park = absl::Seconds(1);            // of a Reserve that came before its request
  absl::Duration remember = absl::Seconds(60);       // an ended handoff, to answer duplicates
  absl::Duration attach_timeout = absl::Seconds(5);  // from a granted link to its control stream
  absl::Duration tick = absl::Milliseconds(20);      // how late a timer may be
};

struct ReceiverCounters {
  uint64_t completed = 0, failed = 0;  // handoffs that the engine expected
  uint64_t bytes = 0;                  // of verified payload
  uint64_t late_frames = 0;            // discarded: their handoff was over
  uint64_t bad_frames = 0;             // wrong tag, place or digest
  uint64_t leases_expired = 0;
  uint32_t links = 0;  // now
};

// The receiving side of all handoffs of one process.
//   life    the control streams are closed (the gRPC server shut down) before it is destroyed;
//           `memory` and the transports outlive it. The destructor ends what is open with
//           Cancelled, and returns when no block is written any more and every `done` was called
//   errors  as HandoffReceiver says; AcceptLink: FailedPrecondition names the field that differs,
//           Unavailable when all links are used
//   threads any
class Receiver final : public HandoffReceiver, private FrameSink {
 public:
  Receiver(BlockMemory* memory, Transports transports, const ReceiverOptions& options);
  ~Receiver() override;

  void Announce(const HandoffKey& key, absl::Time deadline, Asked asked) override;
  void Expect(const HandoffKey& key, uint32_t prompt_tokens, std::vector<BlockId> blocks,
              uint32_t held_blocks, absl::Time deadline, Done done) override;
  void Cancel(const HandoffKey& key, absl::string_view why) override;

  // What the control service calls. A link is granted, then attached to its control stream within
  // attach_timeout; messages and the stream's end follow. The end of either connection ends the
  // link and every handoff that was reserved over it.
  absl::StatusOr<LinkGrant> AcceptLink(const LinkOffer& offer) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Attach(const LinkName& link, std::shared_ptr<ControlChannel<ToSender>> control)
      ABSL_LOCKS_EXCLUDED(mu_);
  void OnMessage(const LinkName& link, ToReceiver message) ABSL_LOCKS_EXCLUDED(mu_);
  void OnControlClosed(const LinkName& link, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);

  ReceiverCounters counters() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Link {
    LinkName name;
    std::string peer;                                   // for logs
    std::string transport;                              // its name
    std::shared_ptr<ControlChannel<ToSender>> control;  // null until attached
    absl::Time attach_end;
  };
  using Entry = std::shared_ptr<Reception>;  // shared with a thread that scatters

  void OnFrame(const FrameHeader& header, absl::Span<const uint8_t> landed) override;
  void OnLinkClosed(const LinkName& link, const absl::Status& why) override;

  void Handle(const LinkName& link, const ReserveMessage& reserve)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Handle(const LinkName& link, const RenewMessage& renew) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Handle(const LinkName& link, const CompleteMessage& complete)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Handle(const LinkName& link, const AbortMessage& abort) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // The entry of just this attempt over this link, or one in kUnknown that is kept nowhere.
  Entry FindFor(const LinkName& link, const HandoffKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The entry of this attempt, made if need be; a newer attempt ends an older one. Null when the
  // attempt itself is stale.
  Entry FindOrMake(const HandoffKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Takes one step of the table and carries out its actions. `why` is the outcome if it ends here.
  void Step(const Entry& entry, ReceiverEvent event, const absl::Status& why = absl::OkStatus())
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The engine will not announce or ask for it any more: what has ended may be forgotten.
  void Unannounce(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Remember(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SendReserved(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(const Entry& entry, ReceiverEvent event, const ReceiverActions& actions,
           const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReportIfQuiet(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Send(const LinkName& link, ToSender message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends a link in whichever transport has it. Waits for at most one frame's copy.
  void Retire(const LinkName& link) ABSL_LOCKS_EXCLUDED(mu_);
  void DropLink(LinkName link, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Tick() ABSL_LOCKS_EXCLUDED(mu_);
  void Forget(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  BlockMemory* const memory_;
  const Transports transports_;
  const ReceiverOptions options_;
  const KvLayout layout_;
  const uint64_t kv_abi_digest_;

  mutable Mutex mu_;
  std::map<uint64_t, Link> links_ ABSL_GUARDED_BY(mu_);         // by link id
  std::map<uint64_t, LinkName> retiring_ ABSL_GUARDED_BY(mu_);  // dropped, still in a transport
  CondVar retired_;                                             // a link left retiring_
  absl::flat_hash_map<std::string, Entry> receptions_ ABSL_GUARDED_BY(mu_);  // by request id
  absl::flat_hash_map<uint64_t, Entry> by_generation_ ABSL_GUARDED_BY(mu_);  // frames may come
  std::deque<Entry> ended_ ABSL_GUARDED_BY(mu_);                             // oldest first
  uint32_t parked_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t next_generation_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t next_epoch_ ABSL_GUARDED_BY(mu_) = 1;  // one counter for all links: it grows for each
  ReceiverCounters counters_ ABSL_GUARDED_BY(mu_);

  Courier courier_;
};

}  // namespace tandem
