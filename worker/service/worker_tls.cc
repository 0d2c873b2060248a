#include "worker/service/worker_tls.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/tls_config.h"

namespace tandem {
namespace {

absl::Status Missing(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": has to be set too: ", why));
}

}  // namespace

absl::StatusOr<WorkerTls> OpenWorkerTls(const config::v1::WorkerConfig& config) {
  ASSIGN_OR_RETURN(TlsSettings listen, TlsSettingsOf(config.server().tls(), "server.tls"));
  ASSIGN_OR_RETURN(TlsSettings connect, TlsSettingsOf(config.peer_tls(), "peer_tls"));
  if (listen.cert_file.empty() && listen.key_file.empty()) {
    if (connect.ca_file.empty()) return WorkerTls{};
    return Missing("server.tls.cert_file", "peer_tls asks for TLS between workers, both ways");
  }
  if (listen.ca_file.empty()) {
    return Missing("server.tls.client_ca_file",
                   "a worker with TLS serves only routers and workers that show a certificate");
  }
  if (connect.ca_file.empty()) {
    connect = listen;
    connect.peer_names.clear();  // those are clients'
  }
  if (connect.cert_file.empty() && connect.key_file.empty()) {
    return Missing("peer_tls.cert_file", "other workers ask for a certificate");
  }
  WorkerTls tls;
  ASSIGN_OR_RETURN(tls.listen, Certificates::Watch(std::move(listen)));
  ASSIGN_OR_RETURN(tls.connect, Certificates::Watch(std::move(connect)));
  return tls;
}

}  // namespace tandem
