#pragma once
#include <memory>

#include "absl/status/statusor.h"
#include "base/certificates.h"
#include "tandem/config/v1/worker.pb.h"

namespace tandem {

// How a worker and its peers prove to each other who they are, on the control and the data
// connections alike. Both or, where nothing is encrypted, neither.
struct WorkerTls {
  std::shared_ptr<const Certificates> listen;   // `server.tls`, with an authority for clients
  std::shared_ptr<const Certificates> connect;  // `peer_tls`; where that is empty, the same files
};

//   errors  InvalidArgument names the field that is missing or the file that does not fit
absl::StatusOr<WorkerTls> OpenWorkerTls(const config::v1::WorkerConfig& config);

}  // namespace tandem
