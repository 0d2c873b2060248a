#pragma once
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/certificates.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/transport.h"

namespace tandem {

// The sending end of one tcp link: makes its connections, and on each says hello and waits for the
// welcome.
//   tls     null: the link is not encrypted
//   errors  PermissionDenied the peer does not know link, epoch or token, or one side does not
//           accept the other's certificate; FailedPrecondition only one of them uses TLS
absl::StatusOr<std::unique_ptr<PushConnection>> ConnectTcpPush(const TransportEndpoint& peer,
                                                               const SocketAddress& address,
                                                               const Certificates* tls,
                                                               absl::Time deadline);

}  // namespace tandem
