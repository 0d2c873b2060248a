#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kvstore/transport/transport.h"

namespace tandem {

struct ShmTransportOptions {
  // Where peers find this process's socket, and this one theirs; both have to have the same folder,
  // under whatever path. Empty: /tmp/tandem-kv-<user id>.
  std::string directory;
  uint32_t max_links = 64;  // > 0; connections beyond it, and a few that say hello, are closed
  absl::Duration handshake_timeout = absl::Seconds(5);  // from accept to a valid hello
  absl::Duration stall_timeout = absl::Seconds(5);      // inside a header, without a byte
};

// Memory shared by two processes of one machine and one user. Each link has a unix socket, over
// which everything goes but the payload: hello, welcome with the window's file, headers, counters,
// and the news of the peer's death. address() is the socket's name in the folder.
//   errors  InvalidArgument a folder that cannot be used; Unavailable no socket or no thread can be
//           had, and at Connect nobody of that name is in the folder; PermissionDenied also a peer
//           of another user
absl::StatusOr<std::unique_ptr<Transport>> MakeShmTransport(const ShmTransportOptions& options);

}  // namespace tandem
