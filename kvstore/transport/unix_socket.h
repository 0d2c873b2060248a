#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kvstore/transport/socket.h"

// Sockets between processes of one machine, by the path of a file.
namespace tandem {

// Listens at `path`, which only processes of this user can connect to. The file is there once the
// socket takes connections: who finds one that refuses them has found a dead process's.
//   errors  InvalidArgument the path is too long for the kernel; Unavailable the system's reason
absl::StatusOr<Socket> ListenUnix(const std::string& path);

// Does not wait: a listener has room for it, or there is none that works.
//   errors  Unavailable nobody listens at `path`
absl::StatusOr<Socket> ConnectUnix(const std::string& path);
// There is a socket's file at `path`, but no process behind it any more.
bool IsDeadUnix(const std::string& path);

// PermissionDenied unless the process at the other end runs as `user`.
absl::Status CheckPeerUser(const Socket& socket, uid_t user);

// Sends `bytes`, not empty, and a copy of the descriptor with the first of them.
absl::Status WriteWithDescriptor(const Socket& socket, absl::Span<const uint8_t> bytes,
                                 int descriptor, const PushLimits& limits);
// Fills `out`, not empty. Returns the descriptor that came with the first bytes; not open if none
// did. More than one are closed, but for the first.
absl::StatusOr<Socket> ReadWithDescriptor(const Socket& socket, absl::Span<uint8_t> out,
                                          const PushLimits& limits);

}  // namespace tandem
