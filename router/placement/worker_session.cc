#include "router/placement/worker_session.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/engine_progress.h"
#include "base/grpc_status.h"
#include "base/log.h"
#include "base/status.h"
#include "router/placement/worker_hello.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr absl::Duration kStopWait = absl::Seconds(10);
constexpr absl::Duration kPing =
    absl::Milliseconds(900);                           // and up to a tick: every second at least
constexpr uint64_t kLongestAgeMs = uint64_t{1} << 40;  // taken from a peer
constexpr char kRetired[] = "no name leads to it any more";

// Half to all of `pause`, so that routers do not reconnect in step.
absl::Duration Jitter(absl::Duration pause) {
  return pause * (0.5 + 0.5 * static_cast<double>(RandomUint64() >> 11) / (uint64_t{1} << 53));
}

}  // namespace

WorkerSession::WorkerSession(Options options)
    : options_(std::move(options)),
      stub_(wv1::WorkerService::NewStub(options_.channel)),
      silence_(options_.silence, options_.clock->Now()),
      backoff_(options_.min_backoff) {
  auto facts = std::make_shared<WorkerFacts>();
  facts->address = options_.address;
  facts->detail = "not connected yet";
  facts_ = std::move(facts);
}

void WorkerSession::Start() { Connect(); }

void WorkerSession::Connect() {
  std::shared_ptr<WorkerStream> stream;
  {
    MutexLock lock(&mu_);
    // Start and Tick are of two threads, and a third one may have retired or stopped the session.
    if (stopped_ || retired_ || stream_ != nullptr) return;
    stream = WorkerStream::Create(options_.max_queued_bytes, shared_from_this());
    stream_ = stream;
    ++open_streams_;
    silence_.Heard(options_.clock->Now());
  }
  wv1::SessionRequest hello;
  hello.mutable_hello()->set_protocol_version(kWorkerProtocolVersion);
  hello.mutable_hello()->set_incarnation(static_cast<uint64_t>(options_.incarnation));
  hello.mutable_hello()->set_target(options_.address);
  stream->Begin(stub_.get(), std::move(hello));
}

void WorkerSession::Stop() {
  {
    MutexLock lock(&mu_);
    stopped_ = true;
  }
  Drop(WorkerState::kLost, "the router is stopping");
  MutexLock lock(&mu_);
  while (open_streams_ > 0) {
    if (!streams_gone_.WaitFor(&mu_, kStopWait)) return;
  }
}

void WorkerSession::Tick() {
  const absl::Time now = options_.clock->Now();
  bool connect = false;
  bool silent = false;
  std::optional<wv1::SessionRequest> ping;
  {
    MutexLock lock(&mu_);
    if (stopped_) return;
    connect = stream_ == nullptr && !retired_ && now >= connect_at_;
    silent = stream_ != nullptr && silence_.Look(now);
    if (stream_ != nullptr && now >= ping_at_) {
      ping_at_ = now + kPing;
      ping.emplace().mutable_ping()->set_nonce(++pings_);
    }
  }
  if (silent) {
    Drop(WorkerState::kLost,
         absl::StrCat("no heartbeat for ", absl::FormatDuration(options_.silence.limit())), nullptr,
         Cause::kSilent);
  } else if (ping) {
    SendControl(*std::move(ping));
  }
  if (connect) Connect();
}

bool WorkerSession::Retire(bool retired) {
  MutexLock lock(&mu_);
  return std::exchange(retired_, retired) != retired;
}

bool WorkerSession::Done() const {
  MutexLock lock(&mu_);
  return retired_ && (stream_ == nullptr || legs_.empty());
}

WorkerView WorkerSession::View() const {
  MutexLock lock(&mu_);
  const uint64_t tokens = reported_tokens_ + charged_tokens_;
  if (!retired_ || facts_->state != WorkerState::kReady) return {facts_, tokens};
  auto facts = std::make_shared<WorkerFacts>(*facts_);
  facts->state = WorkerState::kDraining;
  facts->detail = kRetired;
  return {std::move(facts), tokens};
}

void WorkerSession::SetState(WorkerState state, const std::string& why) {
  auto facts = std::make_shared<WorkerFacts>(*facts_);
  facts->state = state;
  facts->detail = why;
  facts->unanswered = state == WorkerState::kLost && facts_->state == WorkerState::kLost;
  facts_ = std::move(facts);
}

void WorkerSession::Drop(WorkerState state, const std::string& why, const WorkerStream* only,
                         Cause cause) {
  std::shared_ptr<WorkerStream> stream;
  Legs legs;
  bool stops = false;  // it had said so: it cuts off what did not end in time
  {
    MutexLock lock(&mu_);
    if (stream_ == nullptr || (only != nullptr && stream_.get() != only)) return;
    stream = std::exchange(stream_, nullptr);
    legs = std::exchange(legs_, {});
    charged_tokens_ = 0;
    reported_tokens_ = 0;
    stops = draining_;
    SetState(state, why);
    connect_at_ = options_.clock->Now() + Jitter(backoff_);
    backoff_ = std::min(backoff_ * 2, options_.max_backoff);
  }
  LogWarning("worker session ended", {{"worker", options_.address}, {"why", why}});
  stream->Close();
  absl::Status lost =
      absl::UnavailableError(absl::StrCat("worker ", options_.address, " was lost: ", why));
  if (stops) lost = WithReason(std::move(lost), kDrainingReason, {{"retry", "safe"}});
  for (auto& [handle, leg] : legs) {
    cause == Cause::kSilent ? leg.sink->OnSilent(lost) : leg.sink->OnLost(lost);
  }
  options_.on_change();
}

void WorkerSession::OnEnd(const WorkerStream* from, absl::Status why) {
  Drop(WorkerState::kLost, std::string(why.message()), from);
  MutexLock lock(&mu_);
  if (--open_streams_ == 0) streams_gone_.NotifyAll();
}

void WorkerSession::OnMessage(const WorkerStream* from, const wv1::SessionResponse& message) {
  {
    MutexLock lock(&mu_);
    if (stream_.get() != from) return;
    silence_.Heard(options_.clock->Now());
  }
  switch (message.message_case()) {
    case wv1::SessionResponse::kHello:
      return OnHello(from, message.hello());
    case wv1::SessionResponse::kAccepted:
      return OnAccepted(message.accepted());
    case wv1::SessionResponse::kRefused:
      return OnRefused(message.refused());
    case wv1::SessionResponse::kStep:
      return OnStep(message.step());
    case wv1::SessionResponse::kLoad:
      return OnLoad(message.load());
    case wv1::SessionResponse::kHeartbeat:
      return OnHeartbeat(from, message.heartbeat());
    case wv1::SessionResponse::kKvEvents:  // placement does not follow caches yet
    case wv1::SessionResponse::kPong:      // being heard is all it is for
    case wv1::SessionResponse::MESSAGE_NOT_SET:
      return;
  }
}

void WorkerSession::OnHello(const WorkerStream* from, const wv1::WorkerInfo& hello) {
  absl::StatusOr<WorkerFacts> facts = ReadHello(options_.address, hello);
  if (!facts.ok()) {
    Drop(WorkerState::kIncompatible, std::string(facts.status().message()), from);
    return;
  }
  LogInfo("worker connected", {{"worker", options_.address}, {"model", facts->model}});
  {
    MutexLock lock(&mu_);
    if (stream_.get() != from) return;  // dropped since its message was let in
    facts_ = std::make_shared<WorkerFacts>(*std::move(facts));
    draining_ = false;
    progress_ = absl::OkStatus();
    backoff_ = options_.min_backoff;
  }
  options_.on_change();
}

void WorkerSession::OnLoad(const wv1::Load& load) {
  bool changed = false;
  {
    MutexLock lock(&mu_);
    reported_tokens_ = load.queued_prefill_tokens() + load.outstanding_decode_tokens();
    for (auto& [handle, leg] : legs_) {
      if (leg.accepted) charged_tokens_ -= std::exchange(leg.charge, 0);
    }
    draining_ = load.draining();
    changed = Judge();
  }
  if (changed) options_.on_change();
}

bool WorkerSession::Judge() {
  const WorkerState was = facts_->state;
  if (was != WorkerState::kReady && was != WorkerState::kDraining && was != WorkerState::kStuck) {
    return false;
  }
  WorkerState state = draining_ ? WorkerState::kDraining : WorkerState::kReady;
  if (!progress_.ok()) state = WorkerState::kStuck;
  if (state == was) return false;
  const absl::string_view draining = draining_ ? "the worker is stopping" : "";
  SetState(state, std::string(progress_.ok() ? draining : progress_.message()));
  return true;
}

void WorkerSession::OnHeartbeat(const WorkerStream* from, const wv1::Heartbeat& heartbeat) {
  const int64_t age_ms = static_cast<int64_t>(std::min(heartbeat.engine_age_ms(), kLongestAgeMs));
  const absl::Status progress =
      CheckProgress({heartbeat.step_number(), absl::Milliseconds(age_ms)}, options_.stuck_after);
  Legs legs;
  bool changed = false;
  {
    MutexLock lock(&mu_);
    if (stream_.get() != from) return;
    progress_ = progress;
    changed = Judge();
    if (facts_->state == WorkerState::kStuck) {
      legs = std::exchange(legs_, {});
      charged_tokens_ = 0;
    }
  }
  if (!changed) return;
  if (progress.ok()) {
    LogInfo("worker moves again", {{"worker", options_.address}});
  } else {
    LogWarning("worker is stuck", {{"worker", options_.address}, {"why", progress}});
  }
  const absl::Status why =
      WithReason(absl::UnavailableError(
                     absl::StrCat("worker ", options_.address, " is stuck: ", progress.message())),
                 "WORKER_STUCK", {{"retry", "safe"}});
  for (auto& [handle, leg] : legs) {
    SendCancel(handle);
    leg.sink->OnSilent(why);
  }
  options_.on_change();
}

absl::StatusOr<uint64_t> WorkerSession::Submit(wv1::Submit submit, uint64_t charge,
                                               std::shared_ptr<LegSink> sink) {
  std::shared_ptr<WorkerStream> stream;
  uint64_t handle = 0;
  {
    MutexLock lock(&mu_);
    if (stream_ == nullptr || retired_ || facts_->state != WorkerState::kReady) {
      return absl::UnavailableError(absl::StrCat("worker ", options_.address, " is not ready: ",
                                                 retired_ ? kRetired : facts_->detail.c_str()));
    }
    stream = stream_;
    handle = next_handle_++;
    legs_[handle] = {std::move(sink), charge, false};
    charged_tokens_ += charge;
  }
  wv1::SessionRequest request;
  submit.set_handle(handle);
  *request.mutable_submit() = std::move(submit);
  if (absl::Status sent = stream->Send(std::move(request)); !sent.ok()) {
    Leave(handle, /*cancel=*/false);
    return sent;
  }
  bool left = false;
  {
    MutexLock lock(&mu_);
    left = !legs_.contains(handle);
  }
  // A worker found stuck meanwhile may have been told to cancel what it had not been sent yet.
  if (left) SendCancel(handle);
  return handle;
}

WorkerSession::Leg WorkerSession::TakeLeg(uint64_t handle) {
  const auto found = legs_.find(handle);
  if (found == legs_.end()) return {};
  Leg leg = std::move(found->second);
  charged_tokens_ -= leg.charge;
  legs_.erase(found);
  return leg;
}

void WorkerSession::Leave(uint64_t handle, bool cancel) {
  Leg leg;
  {
    MutexLock lock(&mu_);
    leg = TakeLeg(handle);
  }
  if (leg.sink != nullptr && cancel) SendCancel(handle);
}

void WorkerSession::SendCancel(uint64_t handle) {
  wv1::SessionRequest request;
  request.mutable_cancel()->set_handle(handle);
  SendControl(std::move(request));
}

void WorkerSession::CancelOutput(uint64_t handle, uint32_t output) {
  wv1::SessionRequest request;
  request.mutable_cancel()->set_handle(handle);
  request.mutable_cancel()->set_output_index(output);
  SendControl(std::move(request));
}

void WorkerSession::Pause(uint64_t handle) {
  wv1::SessionRequest request;
  request.mutable_pause()->set_handle(handle);
  SendControl(std::move(request));
}

void WorkerSession::Resume(uint64_t handle) {
  wv1::SessionRequest request;
  request.mutable_resume()->set_handle(handle);
  SendControl(std::move(request));
}

// A control message that can't be sent means a worker that no longer reads: it would go on with
// work that nobody wants, so the session is ended, and with it that work.
void WorkerSession::SendControl(wv1::SessionRequest message) {
  std::shared_ptr<WorkerStream> stream;
  {
    MutexLock lock(&mu_);
    stream = stream_;
  }
  if (stream == nullptr) return;
  const absl::Status sent = stream->Send(std::move(message));
  if (!sent.ok()) Drop(WorkerState::kLost, std::string(sent.message()));
}

void WorkerSession::OnAccepted(const wv1::Accepted& accepted) {
  std::shared_ptr<LegSink> sink;
  {
    MutexLock lock(&mu_);
    const auto found = legs_.find(accepted.handle());
    if (found == legs_.end()) return;
    found->second.accepted = true;
    sink = found->second.sink;
  }
  sink->OnAccepted(accepted.cached_tokens());
}

void WorkerSession::OnRefused(const wv1::Refused& refused) {
  Leg leg;
  {
    MutexLock lock(&mu_);
    leg = TakeLeg(refused.handle());
  }
  if (leg.sink == nullptr) return;
  absl::Status why = FromRpcStatus(refused.status());
  if (why.ok()) why = absl::InternalError("the worker refused without a reason");
  leg.sink->OnRefused(std::move(why));
}

void WorkerSession::OnStep(const wv1::Step& step) {
  std::vector<std::shared_ptr<LegSink>> sinks(step.sequences_size());
  {
    MutexLock lock(&mu_);
    for (int i = 0; i < step.sequences_size(); ++i) {
      const auto found = legs_.find(step.sequences(i).handle());
      if (found != legs_.end()) sinks[i] = found->second.sink;
    }
  }
  for (int i = 0; i < step.sequences_size(); ++i) {
    if (sinks[i] != nullptr) sinks[i]->OnStep(step.sequences(i));
  }
}

}  // namespace tandem
