#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kvstore/transport/stream.h"
#include "kvstore/transport/transport.h"
#include "kvstore/transport/wire.h"

namespace tandem {

// One connection of a link whose headers, and Consumed messages back, travel over a socket: never
// sends more than its landing window has room for. Where the payload travels is up to who derives.
//   life, errors, threads  as PushConnection
class PacedPush : public PushConnection {
 public:
  // A stream over the socket.
  PacedPush(std::unique_ptr<const Socket> socket, std::unique_ptr<Stream> stream,
            uint64_t window_bytes);

  absl::Status Push(const FrameHeader& header, absl::Span<const absl::Span<const uint8_t>> payload,
                    const PushLimits& limits) final;
  void Break() final;
  bool broken() const final { return broken_; }
  // Payload bytes that the receiver, as last heard, has not consumed. Not while a Push runs.
  uint64_t in_flight() const { return in_flight_; }

 protected:
  using HeaderBytes = std::array<uint8_t, wire::kFrameBytes>;
  // Sends a frame that there is room for. After an error the link is broken.
  virtual absl::Status Write(const HeaderBytes& header,
                             absl::Span<const absl::Span<const uint8_t>> payload,
                             const PushLimits& limits) = 0;
  Stream& stream() const { return *stream_; }

 private:
  // Takes in what the receiver says it has consumed, until `bytes` fit into its window.
  absl::Status WaitForRoom(uint64_t bytes, const PushLimits& limits);
  absl::Status TakeConsumed();

  const std::unique_ptr<const Socket> socket_;
  const std::unique_ptr<Stream> stream_;
  const uint64_t window_bytes_;
  std::atomic<bool> broken_{false};
  uint64_t frames_ = 0;        // pushed
  uint64_t in_flight_ = 0;     // payload bytes pushed and not known to be consumed
  uint64_t acknowledged_ = 0;  // payload bytes consumed, as last heard
  std::array<uint8_t, wire::kConsumedBytes> consumed_{};  // a message that is arriving
  size_t consumed_bytes_ = 0;                             // of it
};

}  // namespace tandem
