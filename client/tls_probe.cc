#include "client/tls_probe.h"

#include <netdb.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/address.h"

namespace tandem {
namespace {

constexpr unsigned char kAlert = 0x15, kHandshake = 0x16;  // types of TLS records

// The bytes that a TLS client sends first.
std::string ClientHello() {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  SSL_CTX_free);
  if (context == nullptr) return "";
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
  if (ssl == nullptr) return "";
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), in, out);  // frees them
  SSL_set_connect_state(ssl.get());
  (void)SSL_do_handshake(ssl.get());  // stops where it wants the answer
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out, &bytes);  // NOLINT(google-runtime-int): OpenSSL's type
  return std::string(bytes, static_cast<size_t>(size));
}

// A socket that is connected to the address, or -1. Its calls take at most `timeout`.
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

Listener ProbeListener(const std::string& endpoint, absl::Duration timeout) {
  const absl::StatusOr<HostPort> where = ParseHostPort(endpoint);
  if (!where.ok()) return Listener::kNone;
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(where->host.c_str(), absl::StrCat(where->port).c_str(), &hints, &found) != 0) {
    return Listener::kNone;
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  return ProbeListener(addresses.get(), timeout);
}

Listener ProbeListener(const addrinfo* addresses, absl::Duration timeout) {
  int fd = -1;
  for (const addrinfo* at = addresses; at != nullptr && fd < 0; at = at->ai_next) {
    fd = Connect(*at, timeout);
  }
  if (fd < 0) return Listener::kNone;
  const auto closer = absl::MakeCleanup([fd] { close(fd); });
  const std::string hello = ClientHello();
  unsigned char first = 0;
  if (send(fd, hello.data(), hello.size(), MSG_NOSIGNAL) < 0 || recv(fd, &first, 1, 0) != 1) {
    return Listener::kNone;
  }
  return first == kAlert || first == kHandshake ? Listener::kTls : Listener::kOther;
}

}  // namespace tandem
