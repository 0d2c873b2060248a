#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/certificate_expiry.h"
#include "base/grpc_server.h"
#include "base/metric_list.h"
#include "base/observability.h"
#include "kvstore/pool/block_pool.h"
#include "tandem/config/v1/worker.pb.h"
#include "worker/engine/engine.h"
#include "worker/loaded_model.h"
#include "worker/service/handoff_service.h"
#include "worker/service/session_service.h"
#include "worker/service/worker_tls.h"

namespace tandem {

// One worker process: a model, the engine that runs it, and the servers that let others use it.
//   life    Start returns when it serves; Drain lets what runs finish, then ends every session. The
//           destructor stops in the order of what depends on what
//   threads Start, Drain and the destructor by one thread
class Worker {
 public:
  static absl::StatusOr<std::unique_ptr<Worker>> Start(const config::v1::WorkerConfig& config);
  ~Worker();

  // "grpc", "metrics" and "kv", as the ready file has them.
  std::map<std::string, std::string> addresses() const;

  // Takes nothing new, and waits up to drain_timeout for what runs.
  void Drain();

 private:
  explicit Worker(const config::v1::WorkerConfig& config);
  absl::Status StartObservability();
  absl::Status StartEngine();
  absl::Status StartServer();
  absl::Status WatchCertificates();
  absl::Status Alive() const;
  void WatchEngine();
  worker::v1::WorkerInfo Info() const;

  const config::v1::WorkerConfig config_;
  const Incarnation incarnation_;
  WorkerTls tls_;
  MetricRegistry registry_;
  WorkerMetrics metrics_;
  std::unique_ptr<CertificateExpiry> certificate_expiry_;
  Readiness readiness_;
  LoadedModel model_;
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<EngineMetrics> engine_metrics_;
  std::unique_ptr<Handoffs> handoffs_;
  uint64_t leases_expired_ = 0;  // as counted so far
  std::unique_ptr<GuideMetrics> guide_metrics_;
  std::unique_ptr<GuidePool> guides_;  // null: the model has no tokenizer
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<SessionService> service_;
  std::unique_ptr<GrpcServer> server_;
  std::atomic<const Engine*> watched_{nullptr};  // by http_, once it runs
  std::unique_ptr<HttpServer> http_;             // first to go
};

}  // namespace tandem
