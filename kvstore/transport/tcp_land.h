#pragma once
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/transport.h"
#include "kvstore/transport/wire.h"

// The receiving end of one tcp connection, as two steps that its thread takes.
namespace tandem {

// Reads at most one hello's bytes: nothing is allocated for a stranger.
absl::StatusOr<wire::Hello> ReadHello(const Socket& socket, absl::Duration timeout);

// Hands frames to `sink` until the connection ends, and says why it did. Frames arrive in a window
// that lives exactly as long as this call.
//   errors  DataLoss bytes that are no frame of this link; DeadlineExceeded a stall inside a frame;
//           Unavailable the peer closed. Between frames it waits for ever: keepalive finds a dead
//           peer, and ShutDown of the socket ends it
absl::Status LandFrames(const Socket& socket, const Landing& landing, absl::Duration stall,
                        FrameSink* sink);

}  // namespace tandem
