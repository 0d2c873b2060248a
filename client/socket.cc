#include "client/socket.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

// A socket that is connected to the address, or -1.
int Connect(const addrinfo& to, absl::Duration timeout) {
  const int fd = socket(to.ai_family, to.ai_socktype | SOCK_CLOEXEC, to.ai_protocol);
  if (fd < 0) return -1;
  const timeval limit = absl::ToTimeval(timeout);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);  // of connect() too
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, to.ai_addr, to.ai_addrlen) == 0) return fd;
  close(fd);
  return -1;
}

}  // namespace

Socket::Socket(const HostPort& where, absl::Duration timeout) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(where.host.c_str(), absl::StrCat(where.port).c_str(), &hints, &found) != 0) {
    return;
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  ConnectToOneOf(addresses.get(), timeout);
}

Socket::Socket(const addrinfo* addresses, absl::Duration timeout) {
  ConnectToOneOf(addresses, timeout);
}

void Socket::ConnectToOneOf(const addrinfo* addresses, absl::Duration timeout) {
  for (const addrinfo* at = addresses; at != nullptr && fd_ < 0; at = at->ai_next) {
    fd_ = Connect(*at, timeout);
  }
}

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace tandem
