#pragma once
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "kvstore/transport/transport.h"

// Non-blocking TCP sockets whose every wait ends.
namespace tandem {

// A numeric address and a port, ready for the kernel.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  // "127.0.0.1:9101" or "[::1]:9101"; "localhost" is 127.0.0.1. Names are not looked up: an address
  // that a peer sends never makes this process ask a name server.
  static absl::StatusOr<SocketAddress> Parse(absl::string_view text);
  std::string ToString() const;
  bool IsLoopback() const;
  bool IsWildcard() const;  // 0.0.0.0 or ::
  int family() const { return storage.ss_family; }
};

// Owns a file descriptor.
//   life    closes it at the end
//   errors  Unavailable the peer closed or reset, DeadlineExceeded as PushLimits say, Cancelled;
//           after any of them the stream has lost its place
//   threads one reader and one writer at a time; ShutDown by any
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  static absl::StatusOr<Socket> Listen(const SocketAddress& address);
  static absl::StatusOr<Socket> Connect(const SocketAddress& address, absl::Time deadline);
  absl::StatusOr<SocketAddress> LocalAddress() const;

  // What is there now, at most out.size() bytes; 0 when nothing is.
  absl::StatusOr<size_t> ReadSome(absl::Span<uint8_t> out) const;
  // What fits now; 0 when nothing does.
  absl::StatusOr<size_t> WriteSome(absl::Span<const iovec> parts) const;

  // Waits until `events` (POLLIN, POLLOUT) or an error is there: the next call then makes progress
  // or names the error. Waits in short slices, so that it sees `cancelled`.
  absl::Status Wait(short events, const PushLimits& limits,
                    absl::Duration grace = absl::ZeroDuration()) const;

  // Both directions end; a thread that waits in this socket wakes up.
  void ShutDown() const;
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Of a Socket, or of a Stream: all of it, however many calls and waits it takes.
template <typename Source>
absl::Status ReadAll(Source& source, absl::Span<uint8_t> out, const PushLimits& limits) {
  while (!out.empty()) {
    ASSIGN_OR_RETURN(const size_t got, source.ReadSome(out));
    out.remove_prefix(got);
    if (got == 0) {
      RETURN_IF_ERROR(source.Wait(POLLIN, limits));
    }
  }
  return absl::OkStatus();
}
template <typename Sink>
absl::Status WriteAll(Sink& sink, absl::Span<const uint8_t> bytes, const PushLimits& limits) {
  while (!bytes.empty()) {
    const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    ASSIGN_OR_RETURN(const size_t sent, sink.WriteSome({&part, 1}));
    bytes.remove_prefix(sent);
    if (sent == 0) {
      RETURN_IF_ERROR(sink.Wait(POLLOUT, limits, limits.cancel_grace));
    }
  }
  return absl::OkStatus();
}

// Small messages leave at once, and a peer that is gone is noticed within about ten seconds.
absl::Status ConfigureStream(const Socket& socket);

absl::Status ErrnoStatus(int error, absl::string_view what);

}  // namespace tandem
