#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/certificates.h"
#include "kvstore/transport/transport.h"

namespace tandem {

struct TcpTransportOptions {
  static constexpr uint32_t kMaxConnections = 16;

  std::string listen = "127.0.0.1:0";  // numeric; port 0: the kernel chooses
  // Numeric host that peers connect to; empty: the host of `listen`. Needed where `listen` is a
  // wildcard.
  std::string advertise_host;
  // TLS for connections that come and for those that are made; both, or null: none. A certificate
  // is wanted from both ends.
  std::shared_ptr<const Certificates> listen_tls, connect_tls;
  // Allows addresses off loopback without TLS: KV then travels without encryption, or proof of
  // origin beyond the link's token.
  bool insecure = false;
  uint32_t max_links = 64;  // > 0; connections beyond it, and a few that say hello, are closed
  // Of one link, at most; in [1, kMaxConnections]. Each has a window and a thread at the receiver.
  uint32_t connections = 1;
  absl::Duration handshake_timeout = absl::Seconds(5);  // from accept to a valid hello
  absl::Duration stall_timeout = absl::Seconds(5);      // inside a frame, without a byte
};

// Raw TCP between any two hosts. One listening socket; a thread for each connection of each link.
//   errors  InvalidArgument for an address off loopback without TLS or `insecure`, for a wildcard
//           without advertise_host, and for `connections`; Unavailable when the port is taken
//           or no thread can be had. A connection for which there is no thread is closed
absl::StatusOr<std::unique_ptr<Transport>> MakeTcpTransport(const TcpTransportOptions& options);

}  // namespace tandem
