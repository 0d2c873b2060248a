#pragma once
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kvstore/handoff/messages.h"
#include "kvstore/transport/transport.h"

namespace tandem {

// What comes back on a link's control stream.
struct ControlEvents {
  std::function<void(const LinkName&, ToSender)> on_message;
  std::function<void(const LinkName&, const absl::Status& why)> on_closed;  // once, and last
};

// The sender's way to its peers' control service: gRPC in a worker, memory in tests.
//   errors  Unavailable or DeadlineExceeded nobody answers; FailedPrecondition the peer's reason
//   threads any; calls wait for the peer, at most until `deadline`
class ControlDoor {
 public:
  virtual ~ControlDoor() = default;
  virtual absl::StatusOr<LinkGrant> Link(const std::string& peer, const LinkOffer& offer,
                                         absl::Time deadline) = 0;
  // Opens the link's control stream and waits for the peer's `opened`. Events come from other
  // threads until the channel is destroyed, which waits for those that run.
  virtual absl::StatusOr<std::shared_ptr<ControlChannel<ToReceiver>>> Open(const std::string& peer,
                                                                           const LinkName& link,
                                                                           ControlEvents events,
                                                                           absl::Time deadline) = 0;
};

// Both ends of a link that is up: what carries control, and what carries data.
struct SenderLink {
  LinkName name;
  uint64_t window_bytes = 0;   // of each connection
  uint32_t connections = 1;    // of `push`
  std::string push_transport;  // the name of push's
  absl::Status passed_over;    // why a better transport could not be used; OK if none was tried
  std::shared_ptr<PushConnection> push;
  std::shared_ptr<ControlChannel<ToReceiver>> control;
};

// Link, connect, open: each step must succeed before `deadline`. A transport that stays on one
// machine may not reach the peer: the next one is tried then, with a link of a new epoch.
//   errors  as ControlDoor and Transport; FailedPrecondition also when the peer's answer does not
//           fit: another layout, another transport, a window smaller than a slice
absl::StatusOr<SenderLink> EstablishLink(const std::string& peer, const LinkOffer& offer,
                                         ControlDoor* door, const Transports& transports,
                                         const ControlEvents& events, absl::Time deadline);

}  // namespace tandem
