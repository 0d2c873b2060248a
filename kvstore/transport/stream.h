#pragma once
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kvstore/transport/socket.h"

namespace tandem {

// What the two ends of a tcp link write to and read from: a socket, or TLS over one.
//   life    the socket outlives it
//   errors  as Socket; DataLoss when what came is not what the peer sent (TLS finds out)
//   threads one at a time, for both directions together; the socket's ShutDown by any, which wakes
//           one that waits
class Stream {
 public:
  virtual ~Stream() = default;

  // What is there now, at most out.size() bytes; 0 when nothing is.
  virtual absl::StatusOr<size_t> ReadSome(absl::Span<uint8_t> out) = 0;
  // What can be sent now; 0 when nothing can. Then, after a Wait, the next call has to begin with
  // the same bytes, and to have no fewer of them.
  virtual absl::StatusOr<size_t> WriteSome(absl::Span<const iovec> parts) = 0;
  // After ReadSome (POLLIN) or WriteSome (POLLOUT) gave 0: waits until it makes sense to try again.
  virtual absl::Status Wait(short events, const PushLimits& limits,
                            absl::Duration grace = absl::ZeroDuration()) = 0;
};

// The socket itself: nothing is added, nothing copied.
std::unique_ptr<Stream> MakePlainStream(const Socket& socket);

}  // namespace tandem
