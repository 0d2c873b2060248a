#include "kvstore/transport/tls_stream.h"

#include <openssl/err.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/tls_peer.h"
#include "kvstore/transport/tls_context.h"

namespace tandem {
namespace {

constexpr uint8_t kTlsHandshake = 0x16;
constexpr size_t kRecordBytes = 16 << 10;  // the most that one TLS record holds
// What a peer that is refused may still send before the socket is closed, and for how long.
constexpr size_t kLingerBytes = 256 << 10;
constexpr absl::Duration kLinger = absl::Seconds(1);

class TlsStream final : public Stream {
 public:
  TlsStream(const Socket& socket, std::vector<std::string> names)
      : socket_(socket), names_(std::move(names)) {}

  absl::Status Handshake(const TlsFiles& files, bool accept, absl::Time deadline) {
    ASSIGN_OR_RETURN(const TlsContext context, MakeTlsContext(files));
    ssl_.reset(SSL_new(context.get()));
    BIO* const bio = BIO_new(BioMethod());
    if (ssl_ == nullptr || bio == nullptr) {
      BIO_free(bio);
      return absl::UnavailableError("no memory for a TLS connection");
    }
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio);  // owns it
    SSL_set_app_data(ssl_.get(), this);
    SSL_set_verify(ssl_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, CheckName);
    accept ? SSL_set_accept_state(ssl_.get()) : SSL_set_connect_state(ssl_.get());
    const PushLimits limits{.stall = absl::InfiniteDuration(), .deadline = deadline};
    while (true) {
      ERR_clear_error();
      const int done = SSL_do_handshake(ssl_.get());
      if (done == 1) return absl::OkStatus();
      short wanted = 0;  // NOLINT(google-runtime-int): poll's type
      RETURN_IF_ERROR(Outcome(done, &wanted));
      RETURN_IF_ERROR(socket_.Wait(wanted, limits));
    }
  }

  absl::StatusOr<size_t> ReadSome(absl::Span<uint8_t> out) override {
    ERR_clear_error();
    size_t got = 0;
    const int done = SSL_read_ex(ssl_.get(), out.data(), out.size(), &got);
    if (done == 1) return got;
    RETURN_IF_ERROR(Outcome(done, &read_waits_for_));
    return size_t{0};
  }

  // Small parts are gathered to fill records, long ones go to OpenSSL as they are.
  absl::StatusOr<size_t> WriteSome(absl::Span<const iovec> parts) override {
    size_t total = 0, skip = 0;  // skip: bytes of the first part that are sent
    while (!parts.empty()) {
      const absl::Span<const uint8_t> next = NextPiece(parts, skip);
      ERR_clear_error();
      size_t sent = 0;
      if (!next.empty()) {
        const int done = SSL_write_ex(ssl_.get(), next.data(), next.size(), &sent);
        if (done != 1) {
          RETURN_IF_ERROR(Outcome(done, &write_waits_for_));
          return total;
        }
      }
      total += sent;
      for (skip += sent; !parts.empty() && skip >= parts[0].iov_len; parts.remove_prefix(1)) {
        skip -= parts[0].iov_len;
      }
    }
    return total;
  }

  absl::Status Wait(short events, const PushLimits& limits, absl::Duration grace) override {
    return socket_.Wait(events == POLLIN ? read_waits_for_ : write_waits_for_, limits, grace);
  }

  // The peer did not begin as TLS does.
  bool not_tls() const { return heard_ && first_ != kTlsHandshake && first_ != kTlsAlert; }
  bool heard() const { return heard_; }

 private:
  absl::Span<const uint8_t> NextPiece(absl::Span<const iovec> parts, size_t skip) {
    const absl::Span<const uint8_t> first(static_cast<const uint8_t*>(parts[0].iov_base) + skip,
                                          parts[0].iov_len - skip);
    if (first.size() >= kRecordBytes || parts.size() == 1) return first;
    size_t filled = 0;
    for (size_t i = 0; i < parts.size() && filled < record_.size(); ++i) {
      const size_t from = i == 0 ? skip : 0;
      const size_t size = std::min(parts[i].iov_len - from, record_.size() - filled);
      std::memcpy(record_.data() + filled, static_cast<const uint8_t*>(parts[i].iov_base) + from,
                  size);
      filled += size;
    }
    return {record_.data(), filled};
  }

  // OK, with what to wait for, where the call only has to be made again.
  absl::Status Outcome(int done, short* wanted) {  // NOLINT(google-runtime-int)
    switch (SSL_get_error(ssl_.get(), done)) {
      case SSL_ERROR_WANT_READ:
        *wanted = POLLIN;
        return absl::OkStatus();
      case SSL_ERROR_WANT_WRITE:
        *wanted = POLLOUT;
        return absl::OkStatus();
      case SSL_ERROR_ZERO_RETURN:
        return absl::UnavailableError("the peer closed the connection");
      case SSL_ERROR_SYSCALL:
        return io_.ok() ? absl::UnavailableError("the peer closed the connection") : io_;
      default:
        return Failure();
    }
  }

  absl::Status Failure() const {
    const int reason = ERR_GET_REASON(ERR_peek_last_error());
    const std::string text = TlsReason();
    if (!refusal_.ok()) return refusal_;
    const long verdict = SSL_get_verify_result(ssl_.get());  // NOLINT(google-runtime-int)
    if (verdict != X509_V_OK) {
      return absl::PermissionDeniedError(absl::StrCat("the peer's certificate is refused: ",
                                                      X509_verify_cert_error_string(verdict)));
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
      return absl::PermissionDeniedError("the peer has no certificate, and needs one here");
    }
    const int alert = reason - SSL_AD_REASON_OFFSET;  // of the peer, where it is one
    if ((alert >= SSL_AD_BAD_CERTIFICATE && alert <= SSL_AD_ACCESS_DENIED) ||
        alert == SSL_AD_CERTIFICATE_REQUIRED) {
      return absl::PermissionDeniedError(
          absl::StrCat("the peer refuses this process's certificate: ", text));
    }
    if (reason == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC) {
      return absl::DataLossError("TLS: what came is not what the peer sent");
    }
    return absl::UnavailableError(absl::StrCat("TLS: ", text));
  }

  static int CheckName(int chain_is_good, X509_STORE_CTX* store) {
    if (chain_is_good != 1 || X509_STORE_CTX_get_error_depth(store) != 0) return chain_is_good;
    const auto* ssl = static_cast<const SSL*>(
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto* self = static_cast<TlsStream*>(SSL_get_app_data(ssl));
    self->refusal_ = CheckPeerName(X509_STORE_CTX_get_current_cert(store), self->names_);
    if (self->refusal_.ok()) return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
  }

  // OpenSSL's own socket calls would raise SIGPIPE.
  static int BioRead(BIO* bio, char* out, int size) {
    auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const auto got = self->socket_.ReadSome({reinterpret_cast<uint8_t*>(out), size_t(size)});
    if (!got.ok()) {
      self->io_ = got.status();
      return -1;
    }
    if (*got == 0) {
      BIO_set_retry_read(bio);
      return -1;
    }
    if (!self->heard_) self->first_ = static_cast<uint8_t>(out[0]);
    self->heard_ = true;
    return static_cast<int>(*got);
  }
  static int BioWrite(BIO* bio, const char* in, int size) {
    auto* self = static_cast<TlsStream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const iovec part{const_cast<char*>(in), size_t(size)};
    const auto sent = self->socket_.WriteSome({&part, 1});
    if (!sent.ok()) {
      self->io_ = sent.status();
      return -1;
    }
    if (*sent > 0) return static_cast<int>(*sent);
    BIO_set_retry_write(bio);
    return -1;
  }
  static long BioControl(BIO*, int what, long, void*) {  // NOLINT(google-runtime-int)
    return what == BIO_CTRL_FLUSH ? 1 : 0;
  }
  static const BIO_METHOD* BioMethod() {
    static const BIO_METHOD* const method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "tandem socket");
      BIO_meth_set_read(made, BioRead);
      BIO_meth_set_write(made, BioWrite);
      BIO_meth_set_ctrl(made, BioControl);
      return made;
    }();
    return method;
  }

  const Socket& socket_;
  const std::vector<std::string> names_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, SSL_free};
  short read_waits_for_ = POLLIN, write_waits_for_ = POLLOUT;  // NOLINT(google-runtime-int)
  absl::Status io_;                                            // of the socket
  absl::Status refusal_;                                       // of the peer's name
  uint8_t first_ = 0;                                          // byte that came
  bool heard_ = false;                                         // one did
  std::array<uint8_t, kRecordBytes> record_;
};

// Lets the peer read what was said to it: a socket that is closed with unread bytes takes back what
// it sent.
void Linger(const Socket& socket) {
  (void)shutdown(socket.fd(), SHUT_WR);
  std::array<uint8_t, 4096> bytes;
  const PushLimits limits{.stall = kLinger, .deadline = RealClock()->Now() + kLinger};
  for (size_t left = kLingerBytes; left >= bytes.size();) {
    const auto got = socket.ReadSome(absl::MakeSpan(bytes));
    if (!got.ok() || (*got == 0 && !socket.Wait(POLLIN, limits).ok())) return;
    left -= *got;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Stream>> ConnectTls(const Socket& socket,
                                                   const Certificates& certificates,
                                                   std::vector<std::string> names,
                                                   absl::Time deadline) {
  auto stream = std::make_unique<TlsStream>(socket, std::move(names));
  const absl::Status done = stream->Handshake(*certificates.files(), /*accept=*/false, deadline);
  if (done.ok()) return stream;
  if (stream->not_tls()) return absl::FailedPreconditionError("the peer does not speak TLS");
  if (!stream->heard() && absl::IsUnavailable(done)) {
    return absl::UnavailableError(
        absl::StrCat(done.message(), " when asked for TLS; does it serve KV without?"));
  }
  return Annotate(done, "TLS handshake");
}

absl::StatusOr<std::unique_ptr<Stream>> AcceptTls(const Socket& socket,
                                                  const Certificates& certificates,
                                                  absl::Time deadline) {
  auto stream = std::make_unique<TlsStream>(socket, certificates.settings().peer_names);
  const absl::Status done = stream->Handshake(*certificates.files(), /*accept=*/true, deadline);
  if (done.ok()) return stream;
  if (stream->not_tls()) {
    constexpr uint8_t kUnexpected[] = {kTlsAlert, 3, 3, 0, 2, 2, 10};
    (void)WriteAll(socket, kUnexpected, {.stall = kLinger});
  }
  Linger(socket);
  if (stream->not_tls()) return absl::FailedPreconditionError("the peer does not speak TLS");
  return Annotate(done, "TLS handshake");
}

}  // namespace tandem
