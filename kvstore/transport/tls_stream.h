#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/certificates.h"
#include "kvstore/transport/stream.h"

namespace tandem {

// TLS 1.3 over a connected socket, both of whose sides show a certificate. Each takes the other's
// if it comes from the CA of `certificates` and has one of `names` (base/tls_peer.h; none: any).
// They return when the handshake is done; what a connection began with holds for its life.
//   errors  PermissionDenied this side refuses the peer's certificate, or the peer this side's,
//           which a client may hear from its first read only; FailedPrecondition the peer does not
//           speak TLS; Unavailable, DeadlineExceeded
absl::StatusOr<std::unique_ptr<Stream>> ConnectTls(const Socket& socket,
                                                   const Certificates& certificates,
                                                   std::vector<std::string> names,
                                                   absl::Time deadline);
// A peer that is refused hears why.
absl::StatusOr<std::unique_ptr<Stream>> AcceptTls(const Socket& socket,
                                                  const Certificates& certificates,
                                                  absl::Time deadline);

// What a TLS server that fails says first, and so what a peer without TLS hears from it.
inline constexpr uint8_t kTlsAlert = 0x15;

}  // namespace tandem
