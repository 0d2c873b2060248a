#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "base/tls.h"
#include "tandem/config/v1/server.pb.h"

namespace tandem {

// What a section of the configuration asks for. Its files are not read yet.
//   errors  InvalidArgument names the field that is missing from what is half set
absl::StatusOr<TlsSettings> TlsSettingsOf(const config::v1::TlsConfig& tls,
                                          const std::string& section);
absl::StatusOr<TlsSettings> TlsSettingsOf(const config::v1::ClientTlsConfig& tls,
                                          const std::string& section);

}  // namespace tandem
