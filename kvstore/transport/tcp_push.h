#pragma once
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/transport.h"

namespace tandem {

// The sending end of one tcp link: connects, says hello and waits for the welcome.
//   errors  PermissionDenied the peer does not know link, epoch or token
absl::StatusOr<std::unique_ptr<PushConnection>> ConnectTcpPush(const TransportEndpoint& peer,
                                                               const SocketAddress& address,
                                                               absl::Time deadline);

}  // namespace tandem
