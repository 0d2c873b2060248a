#include "worker/service/session_service.h"

#include <algorithm>
#include <utility>

#include "base/grpc_status.h"
#include "worker/service/asset_stream.h"
#include "worker/service/messages.h"

namespace tandem {

namespace wv1 = worker::v1;

namespace {

constexpr int kTicksPerBeat = 4;
// More than can be open and ended at once; what does not fit is written by who told it.
constexpr size_t kSessionsToWrite = 1024;

}  // namespace

SessionService::SessionService(Options options) : options_(std::move(options)) {
  options_.parts.on_hello = [this](const tandem::Session* by, const wv1::RouterHello& hello) {
    OnHello(by, hello);
  };
  options_.parts.to_write = std::make_shared<SessionsToWrite>(kSessionsToWrite);
  heartbeat_ = std::thread([this] { Beat(); });
  writing_ = std::thread([this] { WriteSessions(); });
}

SessionService::~SessionService() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  stopping_changed_.NotifyAll();
  heartbeat_.join();
  options_.parts.to_write->Close();
  writing_.join();
}

void SessionService::WriteSessions() {
  SessionsToWrite& sessions = *options_.parts.to_write;
  while (!sessions.closed()) {
    for (const auto& session : sessions.PopAll(absl::InfiniteDuration())) session->Write();
  }
  (void)sessions.PopAll(absl::ZeroDuration());  // they have ended
}

std::vector<std::shared_ptr<Session>> SessionService::OpenSessions() {
  std::vector<std::shared_ptr<tandem::Session>> open;
  MutexLock lock(&mu_);
  for (const std::weak_ptr<tandem::Session>& weak : sessions_) {
    if (auto session = weak.lock()) open.push_back(std::move(session));
  }
  return open;
}

void SessionService::OnHello(const tandem::Session* by, const wv1::RouterHello& hello) {
  for (const auto& session : OpenSessions()) {
    if (session.get() == by || !session->IsOf(hello)) continue;
    session->End(absl::AbortedError("session: the router has opened another one"));
  }
}

void SessionService::Beat() {
  const absl::Duration tick = options_.heartbeat / kTicksPerBeat;
  absl::Time next = options_.parts.clock->Now() + tick;
  uint64_t ticks = 0;
  while (true) {
    {
      MutexLock lock(&mu_);
      const absl::Duration left = next - options_.parts.clock->Now();
      if (!stopping_ && left > absl::ZeroDuration()) stopping_changed_.WaitFor(&mu_, left);
      if (stopping_) return;
    }
    if (options_.parts.clock->Now() < next) continue;
    next = std::max(next + tick, options_.parts.clock->Now());
    const std::vector<std::shared_ptr<tandem::Session>> open = OpenSessions();
    for (const auto& session : open) session->Watch();
    if (++ticks % kTicksPerBeat != 0) continue;
    for (const auto& session : open) session->Beat();
    options_.on_beat();
  }
}

void SessionService::Open(const std::string& handoff_address) {
  MutexLock lock(&mu_);
  options_.parts.info.set_handoff_address(handoff_address);
  closed_ = absl::OkStatus();
}

void SessionService::EndSessions(const absl::Status& status) {
  {
    MutexLock lock(&mu_);
    closed_ = status;
  }
  for (const auto& session : OpenSessions()) session->Close(status);
}

void SessionService::OnSessionDone() {
  if (options_.sessions) options_.sessions->Add(-1);
  MutexLock lock(&mu_);
  --open_;
}

grpc::ServerBidiReactor<wv1::SessionRequest, wv1::SessionResponse>* SessionService::Session(
    grpc::CallbackServerContext* context) {
  auto session = std::make_shared<tandem::Session>(&options_.parts, context);
  absl::Status admitted;
  {
    MutexLock lock(&mu_);
    std::erase_if(sessions_, [](const auto& weak) { return weak.expired(); });
    admitted = closed_;
    if (admitted.ok() && open_ >= options_.max_sessions) {
      admitted = absl::UnavailableError("this worker has as many sessions as it may have");
    }
    ++open_;
    sessions_.push_back(session);
  }
  if (options_.sessions) options_.sessions->Add(1);
  session->Begin(admitted, [this] { OnSessionDone(); });
  return session.get();
}

grpc::ServerWriteReactor<wv1::GetAssetsResponse>* SessionService::GetAssets(
    grpc::CallbackServerContext*, const wv1::GetAssetsRequest* request) {
  absl::Status admitted;
  {
    MutexLock lock(&mu_);
    admitted = closed_;
  }
  return SendAssets(admitted, options_.assets, *request);
}

grpc::ServerUnaryReactor* SessionService::GetWorker(grpc::CallbackServerContext* context,
                                                    const wv1::GetWorkerRequest*,
                                                    wv1::GetWorkerResponse* response) {
  absl::Status status;
  {
    MutexLock lock(&mu_);
    status = closed_;
    if (status.ok()) *response->mutable_info() = options_.parts.info;
  }
  *response->mutable_load() = ToProto(options_.parts.engine->load());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace tandem
