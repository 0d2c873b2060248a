#pragma once
#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/tls.h"

namespace tandem {

using TlsContext = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

// TLS 1.3 with these files, for either side of a connection.
//   errors  InvalidArgument OpenSSL does not take a file; it says why
absl::StatusOr<TlsContext> MakeTlsContext(const TlsFiles& files);

// What OpenSSL has to say about the call that failed last on this thread.
std::string TlsReason();

}  // namespace tandem
