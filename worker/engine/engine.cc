#include "worker/engine/engine.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace tandem {
namespace {

// Sessions may fill this much of the mailbox; the rest is for messages that can't be refused: the
// ends of handoffs and of sessions. There are never that many of them at once, since no session
// opens while more than kBacklog messages wait.
constexpr size_t kSessionMessages = size_t{Engine::kSessions} * Engine::kMessages;
constexpr size_t kBacklog = 8192;
constexpr size_t kReservedMessages = 65536;
constexpr absl::Duration kLoadInterval = absl::Milliseconds(100);
constexpr absl::Duration kIdleWait = absl::Milliseconds(100);

}  // namespace

Engine::Engine(const EngineParts& parts)
    : clock_(parts.clock),
      metrics_(parts.metrics),
      mailbox_(std::make_shared<Mailbox>(kSessionMessages + kReservedMessages)),
      progress_nanos_(absl::ToUnixNanos(clock_->Now())) {}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Start(const EngineOptions& options,
                                                      const EngineParts& parts) {
  auto engine = std::unique_ptr<Engine>(new Engine(parts));
  const auto post = [mailbox = engine->mailbox_](EngineMessage message) {
    TANDEM_CHECK(mailbox->TryPush(std::move(message)) || mailbox->closed(),
                 "more handoffs ended than can be open");
  };
  ASSIGN_OR_RETURN(engine->core_, EngineCore::Create(options, parts, post));
  engine->Publish(/*worked=*/false);
  engine->thread_ = std::thread([e = engine.get()] { e->Loop(); });
  return engine;
}

void Engine::Stop() {
  mailbox_->Close();
  if (thread_.joinable()) thread_.join();
}

void Engine::Loop() {
  bool worked = false;
  while (!mailbox_->closed()) {
    idle_ = !worked;
    std::vector<EngineMessage> messages =
        mailbox_->PopAll(worked ? absl::ZeroDuration() : kIdleWait);
    progress_nanos_ = absl::ToUnixNanos(clock_->Now());
    idle_ = false;
    if (draining_) core_->Drain();
    for (EngineMessage& message : messages) message(*core_);
    worked = core_->Step();
    step_number_ = core_->step_number();
    progress_nanos_ = absl::ToUnixNanos(clock_->Now());
    Publish(worked);
  }
  idle_ = true;
}

void Engine::Publish(bool worked) {
  const absl::Time now = clock_->Now();
  if (worked && now - load_sent_ < kLoadInterval) return;
  const EngineLoad load = core_->load();
  bool changed = false;
  {
    MutexLock lock(&mu_);
    changed = !(load == load_);
    load_ = load;
    drained_ = load.draining && load.waiting == 0 && load.running == 0;
  }
  drained_changed_.NotifyAll();
  if (!changed) return;
  if (metrics_ != nullptr) metrics_->OnLoad(load);
  load_sent_ = now;
  core_->SendLoad(load);
}

void Engine::Post(EngineMessage message) {
  TANDEM_CHECK(mailbox_->TryPush(std::move(message)) || mailbox_->closed(),
               "more sessions ended than can be open");
}

absl::Status Engine::PostFromSession(SessionId session, uint32_t most, EngineMessage message) {
  std::shared_ptr<std::atomic<uint32_t>> queued;
  {
    MutexLock lock(&mu_);
    const auto found = queued_.find(session);
    if (found == queued_.end()) return absl::UnavailableError("the session is closed");
    queued = found->second;
  }
  if (++*queued > most) {
    --*queued;
    return absl::UnavailableError(
        absl::StrCat("the engine has not taken the session's last ", most, " messages yet"));
  }
  const bool pushed =
      mailbox_->size() < kSessionMessages &&
      mailbox_->TryPush([queued, message = std::move(message)](EngineCore& core) mutable {
        --*queued;
        message(core);
      });
  if (pushed) return absl::OkStatus();
  --*queued;
  return absl::UnavailableError("the engine's queue of messages is full, or it has stopped");
}

absl::StatusOr<SessionId> Engine::OpenSession(std::shared_ptr<StepSink> sink) {
  const SessionId session{next_session_++};
  const bool pushed =
      mailbox_->size() < kBacklog &&
      mailbox_->TryPush([session, sink = std::move(sink)](EngineCore& core) mutable {
        core.OpenSession(session, std::move(sink));
      });
  if (!pushed) return absl::UnavailableError("the engine has too much to do for another session");
  MutexLock lock(&mu_);
  queued_[session] = std::make_shared<std::atomic<uint32_t>>(0);
  return session;
}

void Engine::CloseSession(SessionId session) {
  {
    MutexLock lock(&mu_);
    if (queued_.erase(session) == 0) return;
  }
  Post([session](EngineCore& core) { core.CloseSession(session); });
}

absl::Status Engine::Submit(SessionId session, EngineRequest request) {
  return PostFromSession(session, kSubmits,
                         [session, request = std::move(request)](EngineCore& core) mutable {
                           core.Submit(session, std::move(request));
                         });
}

absl::Status Engine::Cancel(SessionId session, uint64_t handle) {
  return PostFromSession(session, kMessages,
                         [=](EngineCore& core) { core.Cancel(session, handle); });
}

absl::Status Engine::CancelOutput(SessionId session, uint64_t handle, uint32_t output) {
  return PostFromSession(session, kMessages,
                         [=](EngineCore& core) { core.CancelOutput(session, handle, output); });
}

absl::Status Engine::SetPaused(SessionId session, uint64_t handle, bool paused) {
  return PostFromSession(session, kMessages,
                         [=](EngineCore& core) { core.SetPaused(session, handle, paused); });
}

absl::Status Engine::Reassign(SessionId session, uint64_t handle, uint32_t attempt,
                              std::string peer) {
  return PostFromSession(session, kMessages, [=, peer = std::move(peer)](EngineCore& core) mutable {
    core.Reassign(session, handle, attempt, std::move(peer));
  });
}

void Engine::Wake() {
  if (mailbox_->size() == 0) (void)mailbox_->TryPush([](EngineCore&) {});
}

void Engine::Drain() {
  draining_ = true;
  Wake();
}

bool Engine::WaitDrained(absl::Duration timeout) {
  const absl::Time deadline = RealClock()->Now() + timeout;
  MutexLock lock(&mu_);
  while (!drained_ && RealClock()->Now() < deadline) {
    drained_changed_.WaitFor(&mu_, deadline - RealClock()->Now());
  }
  return drained_;
}

EngineProgress Engine::progress() const {
  const bool idle = idle_;  // first: whoever stops being idle makes progress before it says so
  const absl::Time last = absl::FromUnixNanos(progress_nanos_);
  return {step_number_, idle ? absl::ZeroDuration() : clock_->Now() - last};
}

EngineLoad Engine::load() const {
  MutexLock lock(&mu_);
  return load_;
}

}  // namespace tandem
