#include "client/tls_probe.h"

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <memory>

#include "base/address.h"
#include "client/socket.h"

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

Listener Probe(const Socket& socket) {
  if (!socket.connected()) return Listener::kNone;
  const std::string hello = ClientHello();
  unsigned char first = 0;
  if (send(socket.fd(), hello.data(), hello.size(), MSG_NOSIGNAL) < 0 ||
      recv(socket.fd(), &first, 1, 0) != 1) {
    return Listener::kNone;
  }
  return first == kAlert || first == kHandshake ? Listener::kTls : Listener::kOther;
}

}  // namespace

Listener ProbeListener(const std::string& endpoint, absl::Duration timeout) {
  const absl::StatusOr<HostPort> where = ParseHostPort(endpoint);
  return where.ok() ? Probe(Socket(*where, timeout)) : Listener::kNone;
}

Listener ProbeListener(const addrinfo* addresses, absl::Duration timeout) {
  return Probe(Socket(addresses, timeout));
}

}  // namespace tandem
