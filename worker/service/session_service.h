#pragma once
#include <memory>
#include <thread>
#include <vector>

#include "base/metrics.h"
#include "tandem/worker/v1/worker.grpc.pb.h"
#include "worker/model/assets.h"
#include "worker/service/session.h"

namespace tandem {

// tandem.worker.v1.WorkerService: sessions of routers, the model's assets, and what the worker is.
//   life    refuses everything until Open. EndSessions, then the server's Shutdown, then the
//           destructor; the engine stops after it
//   limits  Options::max_sessions; one more ends at once with Unavailable
//   threads any; of its own two, one sends the heartbeats and one what the engine tells
class SessionService final : public worker::v1::WorkerService::CallbackService {
 public:
  struct Options {
    SessionParts parts;
    std::vector<Asset> assets;
    uint32_t max_sessions = 64;
    // How often a heartbeat is sent; sessions are looked after four times as often.
    absl::Duration heartbeat = absl::Seconds(1);
    std::optional<Gauge> sessions;          // counts those that are open
    std::function<void()> on_beat = [] {};  // called with each heartbeat, on its thread
  };
  explicit SessionService(Options options);
  ~SessionService() override;

  // From now on it serves. `handoff_address`: where other workers reach this one.
  void Open(const std::string& handoff_address) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends each session once its outbox is written, which the server's Shutdown bounds, and refuses
  // new ones.
  void EndSessions(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  grpc::ServerBidiReactor<worker::v1::SessionRequest, worker::v1::SessionResponse>* Session(
      grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<worker::v1::GetAssetsResponse>* GetAssets(
      grpc::CallbackServerContext* context, const worker::v1::GetAssetsRequest* request) override;
  grpc::ServerUnaryReactor* GetWorker(grpc::CallbackServerContext* context,
                                      const worker::v1::GetWorkerRequest* request,
                                      worker::v1::GetWorkerResponse* response) override;

 private:
  void Beat() ABSL_LOCKS_EXCLUDED(mu_);
  void WriteSessions();
  // Ends the other sessions of the router that this is the hello of.
  void OnHello(const tandem::Session* by, const worker::v1::RouterHello& hello)
      ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<std::shared_ptr<tandem::Session>> OpenSessions() ABSL_LOCKS_EXCLUDED(mu_);
  void OnSessionDone() ABSL_LOCKS_EXCLUDED(mu_);

  Options options_;  // changed by Open only
  Mutex mu_;
  CondVar stopping_changed_;
  std::vector<std::weak_ptr<tandem::Session>> sessions_ ABSL_GUARDED_BY(mu_);
  uint32_t open_ ABSL_GUARDED_BY(mu_) = 0;
  // What new sessions are told; OK while it serves.
  absl::Status closed_ ABSL_GUARDED_BY(mu_) =
      absl::UnavailableError("this worker is not ready yet");
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread heartbeat_, writing_;  // last: they use the rest
};

}  // namespace tandem
