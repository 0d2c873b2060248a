#pragma once
#include <openssl/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace tandem {

// Whether one of `names` is among the certificate's subject alternative names: a DNS name (which a
// wildcard in the certificate may stand for), an IP address, or a URI. The subject's common name
// does not count. No names: any certificate will do.
//   errors  PermissionDenied names both sides' names
absl::Status CheckPeerName(X509* certificate, absl::Span<const std::string> names);

}  // namespace tandem
