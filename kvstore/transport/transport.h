#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

// How bytes of KV get from one process to another. docs/KV.md has the wire formats.
//
// No peer ever writes into anyone's blocks: a transport delivers a frame into a landing window that
// belongs to the link, and the receiver's FrameSink copies it from there.
namespace tandem {

// One life of one link. Frames of another epoch are never delivered.
struct LinkName {
  uint64_t link_id = 0;
  uint64_t epoch = 0;
  friend bool operator==(const LinkName&, const LinkName&) = default;
};

using Bytes16 = std::array<uint8_t, 16>;

// Says which tenancy of whose blocks a frame is meant for. The receiver compares every field with
// its own, after the payload has been copied.
struct FrameTag {
  LinkName link;
  Bytes16 request{};        // first half of the SHA-256 of the request id
  uint32_t attempt = 0;     // of the request
  uint64_t generation = 0;  // of the receiver's reservation
  uint64_t kv_abi = 0;      // first 8 bytes of the SHA-256 of kv_abi
  friend bool operator==(const FrameTag&, const FrameTag&) = default;
};

// The slices in a payload: `blocks` consecutive blocks of one layer, counted in the sequence.
struct FramePlace {
  uint32_t layer = 0;
  uint32_t first_block = 0;
  uint32_t blocks = 0;
  friend bool operator==(const FramePlace&, const FramePlace&) = default;
};

struct FrameHeader {
  FrameTag tag;
  FramePlace place;
  uint64_t payload_bytes = 0;
  Bytes16 digest{};       // XXH3-128 over tag, place, payload_bytes and the payload
  uint64_t sequence = 0;  // of the frame on its connection, from 0; set by the transport
};

// What a transport can do; asked before it is used.
struct TransportCapabilities {
  absl::string_view name;      // as in kv.v1.LinkRequest.transports
  bool crosses_hosts = false;  // else both processes are on one machine
  bool encrypts = false;       // else only loopback, or a network declared safe
  bool peer_writes_window =
      false;                       // the peer can still write to a window whose frame was delivered
  uint64_t best_frame_bytes = 0;   // payload size from which bigger frames bring nothing
  uint64_t best_window_bytes = 0;  // window size from which bigger ones bring nothing
  uint64_t max_window_bytes = 0;
  uint32_t connections = 1;  // that this end makes, or takes, for one link
};

// Where and as whom to connect: the receiver's answer when it agreed to a link.
struct TransportEndpoint {
  LinkName link;
  std::string address;        // as Transport::address() of the receiver
  Bytes16 token{};            // drawn by the receiver for this epoch
  uint64_t window_bytes = 0;  // of each connection
  uint32_t connections = 1;   // to make, all of them
  // Where the link was agreed: whoever shows a certificate for this host is taken for the receiver,
  // where a transport checks any. Empty: the host in `address`.
  std::string host = {};
};

struct PushLimits {
  absl::Duration stall = absl::Seconds(5);       // longest wait without a byte of progress
  absl::Time deadline = absl::InfiniteFuture();  // for the whole frame
  const std::atomic<bool>* cancelled = nullptr;  // may become true at any time
  // Inside a frame a cancellation is obeyed only when the peer has stalled this long: obeying it
  // breaks the link, and with it everyone else's handoffs.
  absl::Duration cancel_grace = absl::Milliseconds(500);
};

// The sending end of a link. It may have several connections: each frame goes over one of them,
// and frames of different connections overtake each other.
//   life    until destroyed. After a failed Push it is broken for good, with all its connections:
//           link anew, with a new epoch
//   errors  Unavailable the peer closed or died, DeadlineExceeded it stalled, Cancelled; each
//           within the limits, never a hang. InvalidArgument for a payload that no window can hold;
//           only that, and a Cancelled while the window was full, keep the connection usable: see
//           broken()
//   threads Push by as many threads at once as the link has connections; Break and broken by any
class PushConnection {
 public:
  virtual ~PushConnection() = default;
  // Returns when `payload` may be overwritten. At most window_bytes of payload are in flight on a
  // connection: waits for the receiver to consume earlier frames when there is no room.
  virtual absl::Status Push(const FrameHeader& header,
                            absl::Span<const absl::Span<const uint8_t>> payload,
                            const PushLimits& limits) = 0;
  // A Push that runs, and every later one, returns Unavailable at once.
  virtual void Break() = 0;
  virtual bool broken() const = 0;
};

// Takes the frames of links. Calls for one link come from as many of the transport's threads as it
// has connections, and at once; the frames of each connection in their order.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  // `landed` is the payload in the landing window, payload_bytes long; it is the transport's again
  // when this returns. Its bytes are not verified: a peer may have written anything, and with
  // peer_writes_window may be writing still. Copy first, then check what was copied.
  virtual void OnFrame(const FrameHeader& header, absl::Span<const uint8_t> landed) = 0;
  // A connection of the link ended, and then all others; no frame of this epoch follows. Called
  // once, and not after Retire.
  virtual void OnLinkClosed(const LinkName& link, const absl::Status& why) = 0;
};

// A link that the receiver has agreed to and whose peer may now connect.
struct Landing {
  LinkName link;
  Bytes16 token{};
  uint64_t window_bytes = 0;  // of each connection, in (0, max_window_bytes]
  uint32_t connections = 1;   // that the peer may make, in [1, the capabilities' number]
};

// One process's end of all its links of one kind, both directions.
//   life    outlives the connections that it made, and the sinks outlive it or are Retired before
//   errors  Unavailable, DeadlineExceeded, PermissionDenied (the peer refused the hello),
//           InvalidArgument
//   threads any
class Transport {
 public:
  virtual ~Transport() = default;
  virtual const TransportCapabilities& capabilities() const = 0;
  // Where peers connect, as they must spell it.
  virtual std::string address() const = 0;

  virtual absl::StatusOr<std::unique_ptr<PushConnection>> Connect(const TransportEndpoint& peer,
                                                                  absl::Time deadline) = 0;
  // AlreadyExists while the link is there in any epoch: Retire that first.
  virtual absl::Status Admit(const Landing& landing, FrameSink* sink) = 0;
  // Ends the link and its window. When this returns the sink is not called for it any more. Not to
  // be called from within a sink.
  virtual void Retire(const LinkName& link) = 0;
};

// What a process has to offer, best first; not empty. Owned elsewhere.
using Transports = std::vector<Transport*>;

}  // namespace tandem
