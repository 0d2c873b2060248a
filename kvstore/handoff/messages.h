#pragma once
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "kvstore/handoff/handoff.h"
#include "kvstore/transport/transport.h"
#include "kvstore/types.h"

// What the two sides of a handoff tell each other, free of how it travels; the fields mean what
// those of tandem/kv/v1/kv.proto mean.
namespace tandem {

inline constexpr uint32_t kHandoffProtocolVersion = 1;

struct LinkOffer {
  uint32_t protocol_version = kHandoffProtocolVersion;
  Incarnation incarnation{};  // of the sender's process
  KvLayout layout;
  std::vector<std::string> transports;  // in order of preference
  uint32_t connections = 1;             // of the link, at most
  std::string peer;                     // the sender's address, for logs
};

struct LinkGrant {
  Incarnation incarnation{};  // of the receiver's process
  std::string transport;
  TransportEndpoint endpoint;
  KvLayout layout;
};

enum class RefuseReason { kFull, kUnknownRequest, kCancelled, kDraining, kStaleAttempt };
enum class AbortReason { kCancelled, kFinished, kCorrupt, kTimeout, kLeaseExpired, kInternal };

struct ReserveMessage {
  HandoffKey key;
  uint32_t prompt_tokens = 0;
};
struct RenewMessage {
  HandoffKey key;
};
struct CompleteMessage {
  HandoffKey key;
  uint64_t generation = 0;
  std::vector<FirstToken> first_tokens;
  uint64_t bytes = 0;
  uint32_t frames = 0;
};
struct AbortMessage {
  HandoffKey key;
  AbortReason reason = AbortReason::kInternal;
  std::string detail;
};
using ToReceiver = std::variant<ReserveMessage, RenewMessage, CompleteMessage, AbortMessage>;

struct ReservedMessage {
  HandoffKey key;
  uint32_t first_block = 0;
  uint32_t blocks = 0;
  uint64_t generation = 0;
  absl::Duration lease;
};
struct RefusedMessage {
  HandoffKey key;
  RefuseReason reason = RefuseReason::kFull;
  std::string detail;
};
struct CompletedMessage {
  HandoffKey key;
};
using ToSender = std::variant<ReservedMessage, RefusedMessage, CompletedMessage, AbortMessage>;

// One direction of a link's control stream.
//   order   messages of one handoff arrive in the order sent
//   threads Send and Close by any; neither blocks. After the end both do nothing
template <typename Message>
class ControlChannel {
 public:
  virtual ~ControlChannel() = default;
  virtual void Send(Message message) = 0;
  virtual void Close(const absl::Status& why) = 0;
};

// As LinkOffer has them.
std::vector<std::string> NamesOf(const Transports& transports);
uint32_t MostConnectionsOf(const Transports& transports);

// The status that an engine sees for what the other side answered.
absl::Status StatusOf(const RefusedMessage& refused);
absl::Status StatusOf(const AbortMessage& abort);

// OK if blocks of one can be used as blocks of the other; else FailedPrecondition that names the
// first field that differs, with both values.
absl::Status CompareLayouts(const KvLayout& here, const KvLayout& peer);

}  // namespace tandem
