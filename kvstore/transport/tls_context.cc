#include "kvstore/transport/tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr size_t kReadBuffer = 128 << 10;  // several records for one system call

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

Bio Open(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
}

Certificate Next(BIO* pem) {
  return Certificate(PEM_read_bio_X509(pem, nullptr, nullptr, nullptr), X509_free);
}

absl::Status Refused(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("TLS does not take the ", what, ": ", TlsReason()));
}

absl::Status UseIdentity(const TlsFiles& files, SSL_CTX* context) {
  if (files.cert.empty()) return absl::OkStatus();
  const Bio pem = Open(files.cert);
  const Certificate own = Next(pem.get());
  if (own == nullptr || SSL_CTX_use_certificate(context, own.get()) != 1) {
    return Refused("certificate");
  }
  for (Certificate link = Next(pem.get()); link != nullptr; link = Next(pem.get())) {
    if (SSL_CTX_add0_chain_cert(context, link.get()) != 1) return Refused("certificate's chain");
    (void)link.release();  // the context's
  }
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(Open(files.key).get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  if (key == nullptr || SSL_CTX_use_PrivateKey(context, key.get()) != 1) return Refused("key");
  return absl::OkStatus();
}

absl::Status UseAuthorities(const TlsFiles& files, SSL_CTX* context) {
  const Bio pem = Open(files.ca);
  for (Certificate ca = Next(pem.get()); ca != nullptr; ca = Next(pem.get())) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca.get()) != 1) {
      return Refused("authority");
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string TlsReason() {
  const unsigned long error = ERR_peek_last_error();  // NOLINT(google-runtime-int): OpenSSL's type
  const char* reason = ERR_reason_error_string(error);
  return reason != nullptr ? reason : "no reason given";
}

absl::StatusOr<TlsContext> MakeTlsContext(const TlsFiles& files) {
  ERR_clear_error();
  TlsContext context(SSL_CTX_new(TLS_method()), SSL_CTX_free);
  if (context == nullptr) return absl::UnavailableError("no memory for a TLS context");
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(raw,
                           "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                           "TLS_CHACHA20_POLY1305_SHA256");
  SSL_CTX_set_num_tickets(raw, 0);  // a connection lasts; none is resumed
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(raw, 1);
  SSL_CTX_set_default_read_buffer_len(raw, kReadBuffer);
  RETURN_IF_ERROR(UseIdentity(files, raw));
  RETURN_IF_ERROR(UseAuthorities(files, raw));
  ERR_clear_error();  // the end of each PEM text is one
  return context;
}

}  // namespace tandem
