#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "tandem/config/v1/server.pb.h"

namespace tandem {

// PEM texts, read and checked.
struct TlsFiles {
  std::string cert, key;  // both or neither
  std::string ca;  // authorities that the other side's certificate must come from; may be empty
};

// Reads what `tls` names. InvalidArgument names the option and file at fault: one that can't be
// read, holds no certificate or key, or a certificate and key that do not belong together.
//   option  where the section is in the configuration, e.g. "server.tls"; empty: it is in none
absl::StatusOr<TlsFiles> ReadTls(const config::v1::TlsConfig& tls, absl::string_view option);
absl::StatusOr<TlsFiles> ReadTls(const config::v1::ClientTlsConfig& tls, absl::string_view option);

}  // namespace tandem
