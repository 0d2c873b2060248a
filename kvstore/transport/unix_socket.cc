#include "kvstore/transport/unix_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr int kBacklog = 64;

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("socket path \"", path, "\" has ", path.size(),
                                                   " bytes; the system takes ",
                                                   sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<Socket> NewSocket() {
  Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.open()) return ErrnoStatus(errno, "socket");
  return socket;
}

// The descriptor in a received message's control data. MSG_CMSG_CLOEXEC was given.
Socket DescriptorIn(msghdr* message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(part), sizeof descriptor);
    return Socket(descriptor);
  }
  return Socket();
}

// Room for one descriptor: the kernel closes those that do not fit.
union Control {
  cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int))];
};

}  // namespace

absl::StatusOr<Socket> ListenUnix(const std::string& path) {
  // Another process that looks for dead sockets must not find it between bind and listen.
  const std::string early = absl::StrCat(path, ".new");
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(early));
  ASSIGN_OR_RETURN(Socket socket, NewSocket());
  const std::string what = absl::StrCat("listen on ", path);
  if (bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoStatus(errno, what);
  }
  if (chmod(early.c_str(), 0600) != 0 || listen(socket.fd(), kBacklog) != 0 ||
      rename(early.c_str(), path.c_str()) != 0) {
    const absl::Status why = ErrnoStatus(errno, what);
    (void)unlink(early.c_str());
    return why;
  }
  return socket;
}

absl::StatusOr<Socket> ConnectUnix(const std::string& path) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  ASSIGN_OR_RETURN(Socket socket, NewSocket());
  if (connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoStatus(errno, absl::StrCat("connect to ", path));
  }
  return socket;
}

bool IsDeadUnix(const std::string& path) {
  const absl::StatusOr<sockaddr_un> address = AddressOf(path);
  const absl::StatusOr<Socket> socket = NewSocket();
  if (!address.ok() || !socket.ok()) return false;
  return connect(socket->fd(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) !=
             0 &&
         errno == ECONNREFUSED;
}

absl::Status CheckPeerUser(const Socket& socket, uid_t user) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket.fd(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return ErrnoStatus(errno, "SO_PEERCRED");
  }
  if (peer.uid == user) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("the process at the other end runs as user ", peer.uid, ", not ", user));
}

absl::Status WriteWithDescriptor(const Socket& socket, absl::Span<const uint8_t> bytes,
                                 int descriptor, const PushLimits& limits) {
  iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};  // sendmsg does not write to it
  Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control.bytes;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptor);
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  while (true) {
    const ssize_t sent = sendmsg(socket.fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) return WriteAll(socket, bytes.subspan(static_cast<size_t>(sent)), limits);
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      RETURN_IF_ERROR(socket.Wait(POLLOUT, limits));
    } else if (errno != EINTR) {
      return ErrnoStatus(errno, "write");
    }
  }
}

absl::StatusOr<Socket> ReadWithDescriptor(const Socket& socket, absl::Span<uint8_t> out,
                                          const PushLimits& limits) {
  while (true) {
    iovec part{out.data(), out.size()};
    Control control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control.bytes;
    const ssize_t got = recvmsg(socket.fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got > 0) {
      Socket descriptor = DescriptorIn(&message);
      RETURN_IF_ERROR(ReadAll(socket, out.subspan(static_cast<size_t>(got)), limits));
      return descriptor;
    }
    if (got == 0) return absl::UnavailableError("the peer closed the connection");
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      RETURN_IF_ERROR(socket.Wait(POLLIN, limits));
    } else if (errno != EINTR) {
      return ErrnoStatus(errno, "read");
    }
  }
}

}  // namespace tandem
