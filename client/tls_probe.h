#pragma once
#include <string>

#include "absl/time/time.h"

struct addrinfo;

namespace tandem {

// What listens somewhere, by how it answers the first message of a TLS handshake. gRPC does not
// tell why a connection failed; this is how an error can.
enum class Listener {
  kNone,   // nothing took the connection and answered within the time
  kTls,    // it went on with the handshake, or refused it as TLS does
  kOther,  // it answered something else
};

// Connects to "host:port", sends that message and waits for one byte. A name is tried at one of its
// addresses after the other, until a connection is made. Blocks for up to `timeout` each, for each
// connection and for the answer.
Listener ProbeListener(const std::string& endpoint, absl::Duration timeout);
Listener ProbeListener(const addrinfo* addresses, absl::Duration timeout);

}  // namespace tandem
