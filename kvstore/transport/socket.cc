#include "kvstore/transport/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr absl::Duration kSlice = absl::Milliseconds(50);  // how late a cancellation is seen
constexpr absl::Duration kLongest = absl::Hours(1);        // one poll

absl::Status SetOption(int fd, int level, int option, int value, absl::string_view name) {
  if (setsockopt(fd, level, option, &value, sizeof value) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, name);
}

}  // namespace

absl::Status ErrnoStatus(int error, absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(error)));
}

absl::StatusOr<SocketAddress> SocketAddress::Parse(absl::string_view text) {
  const auto bad = [text](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", text, "\": ", why, "; want 127.0.0.1:9101 or [::1]:9101"));
  };
  const size_t colon = text.rfind(':');
  if (text.size() > 128 || colon == absl::string_view::npos) return bad("no port");
  uint32_t port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port > 65535) return bad("bad port");
  std::string host(text.substr(0, colon));
  if (host == "localhost") host = "127.0.0.1";

  SocketAddress address;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    host = host.substr(1, host.size() - 2);
    if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) != 1) return bad("bad IPv6 address");
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    address.length = sizeof *v6;
    return address;
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) != 1) return bad("not a numeric address");
  v4->sin_family = AF_INET;
  v4->sin_port = htons(static_cast<uint16_t>(port));
  address.length = sizeof *v4;
  return address;
}

std::string SocketAddress::ToString() const {
  char host[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    return absl::StrCat("[", host, "]:", ntohs(v6->sin6_port));
  }
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
  inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
  return absl::StrCat(host, ":", ntohs(v4->sin_port));
}

bool SocketAddress::IsLoopback() const {
  if (family() == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr);
  }
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
  return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
}

bool SocketAddress::IsWildcard() const {
  if (family() == AF_INET6) {
    return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr);
  }
  return reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr.s_addr == htonl(INADDR_ANY);
}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<Socket> Socket::Listen(const SocketAddress& address) {
  Socket socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const std::string what = absl::StrCat("listen on ", address.ToString());
  if (!socket.open()) return ErrnoStatus(errno, what);
  RETURN_IF_ERROR(SetOption(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
  if (bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 ||
      listen(socket.fd(), 64) != 0) {
    return ErrnoStatus(errno, what);
  }
  return socket;
}

absl::StatusOr<Socket> Socket::Connect(const SocketAddress& address, absl::Time deadline) {
  Socket socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const std::string what = absl::StrCat("connect to ", address.ToString());
  if (!socket.open()) return ErrnoStatus(errno, what);
  RETURN_IF_ERROR(ConfigureStream(socket));
  if (connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) !=
      0) {
    if (errno != EINPROGRESS) return ErrnoStatus(errno, what);
    const absl::Status ready =
        socket.Wait(POLLOUT, {.stall = absl::InfiniteDuration(), .deadline = deadline});
    if (!ready.ok()) return Annotate(ready, what);
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) return ErrnoStatus(error, what);
  }
  return socket;
}

absl::StatusOr<SocketAddress> Socket::LocalAddress() const {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return ErrnoStatus(errno, "getsockname");
  }
  return address;
}

absl::StatusOr<size_t> Socket::ReadSome(absl::Span<uint8_t> out) const {
  while (true) {
    const ssize_t got = recv(fd_, out.data(), out.size(), MSG_DONTWAIT);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) return absl::UnavailableError("the peer closed the connection");
    if (errno == EAGAIN || errno == EWOULDBLOCK) return size_t{0};
    if (errno != EINTR) return ErrnoStatus(errno, "read");
  }
}

absl::StatusOr<size_t> Socket::WriteSome(absl::Span<const iovec> parts) const {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());  // sendmsg does not write to it
  message.msg_iovlen = parts.size();
  while (true) {
    const ssize_t sent = sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return size_t{0};
    if (errno != EINTR) return ErrnoStatus(errno, "write");
  }
}

absl::Status Socket::Wait(short events, const PushLimits& limits, absl::Duration grace) const {
  const absl::Time start = RealClock()->Now();
  for (absl::Time now = start;; now = RealClock()->Now()) {
    if (limits.cancelled != nullptr && limits.cancelled->load() && now - start >= grace) {
      return absl::CancelledError("cancelled while waiting for the peer");
    }
    const absl::Duration left = std::min(limits.deadline - now, limits.stall - (now - start));
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat("no progress for ", absl::FormatDuration(now - start)));
    }
    pollfd one{fd_, events, 0};
    const absl::Duration slice =
        std::min(left, limits.cancelled != nullptr ? kSlice : kLongest) + absl::Microseconds(999);
    const int ready = poll(&one, 1, static_cast<int>(absl::ToInt64Milliseconds(slice)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return ErrnoStatus(errno, "poll");
  }
}

void Socket::ShutDown() const {
  if (fd_ >= 0) (void)shutdown(fd_, SHUT_RDWR);
}

absl::Status ConfigureStream(const Socket& socket) {
  const int fd = socket.fd();
  RETURN_IF_ERROR(SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
  RETURN_IF_ERROR(SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 10'000, "TCP_USER_TIMEOUT"));
  RETURN_IF_ERROR(SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"));
  RETURN_IF_ERROR(SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, 4, "TCP_KEEPIDLE"));
  RETURN_IF_ERROR(SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, 2, "TCP_KEEPINTVL"));
  return SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, 3, "TCP_KEEPCNT");
}

}  // namespace tandem
