#include "base/tls_config.h"

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

absl::Status Missing(const std::string& section, absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(section, section.empty() ? "" : ".", field, ": has to be set too: ", why));
}

}  // namespace

absl::StatusOr<TlsSettings> TlsSettingsOf(const config::v1::TlsConfig& tls,
                                          const std::string& section) {
  if (!tls.client_ca_file().empty() && tls.cert_file().empty()) {
    return Missing(section, "cert_file", "client_ca_file asks for TLS");
  }
  if (tls.client_names_size() > 0 && tls.client_ca_file().empty()) {
    return Missing(section, "client_ca_file", "client_names are those of clients' certificates");
  }
  return TlsSettings{.section = section,
                     .ca_field = "client_ca_file",
                     .cert_file = tls.cert_file(),
                     .key_file = tls.key_file(),
                     .ca_file = tls.client_ca_file(),
                     .peer_names = {tls.client_names().begin(), tls.client_names().end()}};
}

absl::StatusOr<TlsSettings> TlsSettingsOf(const config::v1::ClientTlsConfig& tls,
                                          const std::string& section) {
  const bool half =
      !tls.cert_file().empty() || !tls.key_file().empty() || tls.server_names_size() > 0;
  if (half && tls.ca_file().empty()) {
    return Missing(section, "ca_file", "it is what turns TLS on");
  }
  return TlsSettings{.section = section,
                     .cert_file = tls.cert_file(),
                     .key_file = tls.key_file(),
                     .ca_file = tls.ca_file(),
                     .peer_names = {tls.server_names().begin(), tls.server_names().end()}};
}

}  // namespace tandem
