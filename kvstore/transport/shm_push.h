#pragma once
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/transport.h"

namespace tandem {

// The sending end of one shm link, over a socket that has just connected: says hello, and takes the
// window that comes with the welcome.
//   errors  PermissionDenied the peer does not know link, epoch or token; DataLoss what it sent is
//           no window
absl::StatusOr<std::unique_ptr<PushConnection>> OpenShmPush(Socket socket,
                                                            const TransportEndpoint& peer,
                                                            absl::Time deadline);

}  // namespace tandem
