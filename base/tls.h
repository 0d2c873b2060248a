#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tandem {

// A certificate of one's own and whom to trust, as a section of the configuration names them.
struct TlsSettings {
  std::string section;  // such as "server.tls", for errors; empty: it is in no configuration
  std::string ca_field = "ca_file";  // how the section spells `ca_file`
  std::string cert_file, key_file;   // PEM; both or neither
  std::string ca_file;               // PEM; may be empty where the other side shows no certificate
  std::vector<std::string> peer_names;  // see CheckPeerName
};

// PEM texts, read and checked.
struct TlsFiles {
  std::string cert, key;  // both or neither
  std::string ca;         // authorities that the other side's certificate must come from; or empty
  friend bool operator==(const TlsFiles&, const TlsFiles&) = default;
};

// Reads what `settings` name. InvalidArgument names the option and file at fault: one that can't be
// read, holds no certificate or key, a certificate and key that do not belong together, or a
// certificate whose time is not now.
absl::StatusOr<TlsFiles> ReadTls(const TlsSettings& settings);

// When a certificate is good: from one moment to the other.
struct CertificateTimes {
  absl::Time from, until;
};
// Of the first certificate in `cert_file`, good now or not. Errors as ReadTls.
absl::StatusOr<CertificateTimes> ReadCertificateTimes(const TlsSettings& settings);

}  // namespace tandem
