#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/certificates.h"
#include "tests/support/test_certificate.h"
#include "tests/support/test_files.h"

namespace tandem {

// Files in `folder` with this certificate and this authority, watched. Without a certificate only
// the other side has one.
inline std::shared_ptr<const Certificates> WatchFiles(
    const std::string& folder, const TestCertificate& own, const std::string& ca,
    std::vector<std::string> peer_names = {}, absl::Duration interval = Certificates::kInterval) {
  TlsSettings settings;
  if (!own.cert.empty()) {
    settings.cert_file = WriteFile(folder + "/cert.pem", own.cert);
    settings.key_file = WriteFile(folder + "/key.pem", own.key);
  }
  settings.ca_file = WriteFile(folder + "/ca.pem", ca);
  settings.peer_names = std::move(peer_names);
  return *Certificates::Watch(std::move(settings), interval);
}

}  // namespace tandem
