#pragma once
#include "absl/time/time.h"
#include "base/address.h"

struct addrinfo;

namespace tandem {

// A TCP connection to the first address of a list, or of a name, that takes one. No call on it
// takes longer than `timeout`, and neither does connecting to one address. Closes itself.
class Socket {
 public:
  Socket(const HostPort& where, absl::Duration timeout);
  Socket(const addrinfo* addresses, absl::Duration timeout);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  bool connected() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  void ConnectToOneOf(const addrinfo* addresses, absl::Duration timeout);

  int fd_ = -1;
};

}  // namespace tandem
