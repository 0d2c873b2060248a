#pragma once
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kvstore/transport/stream.h"
#include "kvstore/transport/transport.h"
#include "kvstore/transport/wire.h"

namespace tandem {

// Reads at most one hello's bytes: nothing is allocated for a stranger.
absl::StatusOr<wire::Hello> ReadHello(Stream* stream, absl::Duration timeout);

// Where the payload of the frame that comes next is once this returns: read from the stream, or
// written by the peer before it sent the header. The header's payload_bytes fit the window.
using TakePayload = std::function<absl::StatusOr<absl::Span<const uint8_t>>(const FrameHeader&)>;

// Hands frames to `sink` until the connection ends, and says why it did. Tells the sender what has
// been consumed when a quarter of the window has, and when there is nothing to read.
//   errors  DataLoss bytes that are no frame of this link; DeadlineExceeded a stall inside a frame;
//           Unavailable the peer closed. Between frames it waits for ever: the socket's end ends it
absl::Status LandFrames(Stream* stream, const Landing& landing, absl::Duration stall,
                        const TakePayload& take, FrameSink* sink);

}  // namespace tandem
