#include "worker/service/session.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/log.h"
#include "base/status.h"
#include "worker/service/messages.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr size_t kMaxReplies = 1024;         // unwritten: then nothing more is read
constexpr size_t kCongestedBytes = 1 << 20;  // unwritten steps: then nothing more is computed
constexpr size_t kUncongestedBytes = 256 << 10;
constexpr size_t kMaxPeer = 512;  // bytes of an address, as in a Submit

absl::Status CheckPeer(const std::string& peer) {
  if (!peer.empty() && peer.size() <= kMaxPeer) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("session: reassign.peer has ", peer.size(), " bytes, want 1 to ", kMaxPeer));
}

}  // namespace

void Session::Begin(const absl::Status& admitted, std::function<void()> on_done) {
  self_ = shared_from_this();
  on_done_ = std::move(on_done);
  if (!admitted.ok()) return End(admitted);
  ReadNext();
}

void Session::ReadNext() {
  {
    MutexLock lock(&mu_);
    if (end_) return;
    read_waits_ = outbox_.replies() > kMaxReplies;
    if (read_waits_) return;
    ++starting_reads_;
  }
  StartRead(&request_);
  {
    MutexLock lock(&mu_);
    --starting_reads_;
  }
  Pump();
}

void Session::OnReadDone(bool ok) {
  if (!ok) return End(absl::OkStatus());  // the router closed its side, or is gone
  {
    MutexLock lock(&mu_);
    silence_.Heard(parts_->clock->Now());
  }
  const absl::Status status = Handle(request_);
  if (!status.ok()) return End(status);
  ReadNext();
}

absl::Status Session::Handle(const wv1::SessionRequest& request) {
  if (request.has_hello()) return Hello(request.hello());
  std::optional<SessionId> session;
  {
    MutexLock lock(&mu_);
    session = session_;
  }
  if (!session) return absl::InvalidArgumentError("session: the first message must be `hello`");
  Engine* engine = parts_->engine;
  wv1::SessionResponse pong;
  switch (request.message_case()) {
    case wv1::SessionRequest::kSubmit:
      Submit(request.submit());
      return absl::OkStatus();
    case wv1::SessionRequest::kCancel:
      if (!request.cancel().has_output_index()) {
        return engine->Cancel(*session, request.cancel().handle());
      }
      return engine->CancelOutput(*session, request.cancel().handle(),
                                  request.cancel().output_index());
    case wv1::SessionRequest::kPause:
      return engine->SetPaused(*session, request.pause().handle(), true);
    case wv1::SessionRequest::kResume:
      return engine->SetPaused(*session, request.resume().handle(), false);
    case wv1::SessionRequest::kReassign:
      RETURN_IF_ERROR(CheckPeer(request.reassign().peer()));
      return engine->Reassign(*session, request.reassign().handle(), request.reassign().attempt(),
                              request.reassign().peer());
    case wv1::SessionRequest::kDrain:
      engine->Drain();
      return absl::OkStatus();
    case wv1::SessionRequest::kPing:
      pong.mutable_pong()->set_nonce(request.ping().nonce());
      Reply(std::move(pong));
      Pump();
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError("session: a message of a kind that this worker lacks");
  }
}

absl::Status Session::Hello(const wv1::RouterHello& hello) {
  if (hello.protocol_version() != kWorkerProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("session: the router speaks protocol version ", hello.protocol_version(),
                     ", this worker ", kWorkerProtocolVersion));
  }
  if (hello.target().size() > kMaxPeer) {
    return absl::InvalidArgumentError(absl::StrCat(
        "session: hello.target has ", hello.target().size(), " bytes, want at most ", kMaxPeer));
  }
  {
    MutexLock lock(&mu_);
    if (session_) return absl::InvalidArgumentError("session: a second `hello`");
    router_ = hello;
    wv1::SessionResponse answer;
    *answer.mutable_hello() = parts_->info;
    outbox_.Reply(std::move(answer));
  }
  parts_->on_hello(this, hello);
  ASSIGN_OR_RETURN(const SessionId session, parts_->engine->OpenSession(shared_from_this()));
  bool ended = false;
  {
    MutexLock lock(&mu_);
    session_ = session;
    ended = end_.has_value();
    // The hello does not say whether the engine moves.
    if (!ended) outbox_.SetHeartbeat(ToProto(parts_->engine->progress()));
  }
  if (ended) parts_->engine->CloseSession(session);
  LogInfo("router connected", {{"router", hello.incarnation()}});
  Pump();
  return absl::OkStatus();
}

void Session::Submit(const wv1::Submit& submit) {
  absl::StatusOr<EngineRequest> request = CheckSubmit(submit, parts_->limits, parts_->clock->Now());
  absl::Status status = request.status();
  if (status.ok()) {
    std::optional<SessionId> session;
    {
      MutexLock lock(&mu_);
      session = session_;
    }
    status = parts_->engine->Submit(*session, *std::move(request));
  }
  if (!status.ok()) OnRefused(submit.handle(), status);
}

void Session::Reply(wv1::SessionResponse message) {
  MutexLock lock(&mu_);
  if (!end_) outbox_.Reply(std::move(message));
}

void Session::WriteSoon() {
  {
    MutexLock lock(&mu_);
    // Else the write in flight, or who has been asked, takes what is there now.
    if (finished_ || writing_ || to_be_written_) return;
    to_be_written_ = true;
  }
  if (!to_write_->TryPush(shared_from_this())) Write();
}

void Session::Write() {
  {
    MutexLock lock(&mu_);
    to_be_written_ = false;
  }
  Pump();
}

void Session::OnAccepted(uint64_t handle, uint32_t cached_tokens) {
  wv1::SessionResponse message;
  message.mutable_accepted()->set_handle(handle);
  message.mutable_accepted()->set_cached_tokens(cached_tokens);
  Reply(std::move(message));
  WriteSoon();
}

void Session::OnRefused(uint64_t handle, const absl::Status& status) {
  wv1::SessionResponse message;
  *message.mutable_refused() = ToRefused(handle, status);
  Reply(std::move(message));
  WriteSoon();
}

void Session::OnStep(StepOutput output) {
  {
    MutexLock lock(&mu_);
    if (end_) return;
    outbox_.Step(std::move(output));
    UpdateCongestion();
  }
  WriteSoon();
}

void Session::OnLoad(const EngineLoad& load) {
  {
    MutexLock lock(&mu_);
    if (end_) return;
    outbox_.SetLoad(ToProto(load));
  }
  WriteSoon();
}

bool Session::IsOf(const wv1::RouterHello& hello) {
  MutexLock lock(&mu_);
  return hello.incarnation() != 0 && router_.incarnation() == hello.incarnation() &&
         router_.target() == hello.target();
}

void Session::Beat() {
  {
    MutexLock lock(&mu_);
    if (end_ || !session_) return;
    outbox_.SetHeartbeat(ToProto(parts_->engine->progress()));
  }
  Pump();
}

void Session::Watch() {
  const absl::Time now = parts_->clock->Now();
  bool late = false, stuck = false, silent = false;
  {
    MutexLock lock(&mu_);
    if (finished_) return;
    late = !end_ && !session_ && now - began_ >= parts_->hello_timeout;
    const bool pings = !router_.target().empty();  // see RouterHello
    silent = silence_.Look(now) && session_ && pings;
    stuck = end_ && writing_ && now - ended_ >= parts_->end_timeout;
    cancelling_ = stuck;
  }
  if (stuck) {
    context_->TryCancel();
    MutexLock lock(&mu_);
    cancelling_ = false;
  }
  if (late) {
    return End(absl::DeadlineExceededError(absl::StrCat(
        "session: no `hello` came within ", absl::FormatDuration(parts_->hello_timeout))));
  }
  if (silent) {
    return End(
        absl::DeadlineExceededError(absl::StrCat("session: the router has said nothing for ",
                                                 absl::FormatDuration(parts_->silence.limit()))));
  }
  Pump();
}

// Whether the engine should be woken because there is room again.
bool Session::UpdateCongestion() {
  const bool was = congested_;
  congested_ = outbox_.bytes() >= (was ? kUncongestedBytes : kCongestedBytes);
  return was && !congested_;
}

void Session::Close(const absl::Status& status) {
  {
    MutexLock lock(&mu_);
    if (!close_) close_ = status;
  }
  Pump();
}

void Session::End(const absl::Status& status) {
  std::optional<SessionId> session;
  {
    MutexLock lock(&mu_);
    if (end_) return;
    end_ = status;
    ended_ = parts_->clock->Now();
    outbox_ = Outbox();
    session = session_;
  }
  if (session) parts_->engine->CloseSession(*session);
  if (!status.ok()) LogWarning("session ended", {{"why", status}});
  Pump();
}

void Session::Pump() {
  std::optional<absl::Status> finish, end;
  bool write = false, wake = false, read = false;
  {
    MutexLock lock(&mu_);
    if (finished_ || writing_ || cancelling_) return;
    if (end_) {
      if (starting_reads_ > 0) return;
      finished_ = true;
      finish = end_;
    } else if (std::optional<wv1::SessionResponse> next = outbox_.Next()) {
      writing_ = write = true;
      reply_ = *std::move(next);
      wake = UpdateCongestion();
      read = read_waits_ && outbox_.replies() <= kMaxReplies;
      if (read_waits_) silence_.Heard(parts_->clock->Now());
      if (read) read_waits_ = false;
    } else {
      end = close_;
    }
  }
  if (end) return End(*end);
  if (finish) return Finish(ToGrpcStatus(*finish));
  if (write) StartWrite(&reply_);
  if (wake) parts_->engine->Wake();
  if (read) ReadNext();
}

void Session::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mu_);
    writing_ = false;
  }
  if (!ok) End(absl::UnavailableError("session: the router is gone"));
  Pump();
}

void Session::OnCancel() { End(absl::CancelledError("session: the stream was cancelled")); }

void Session::OnDone() {
  const std::shared_ptr<Session> last = std::move(self_);
  on_done_();
}

}  // namespace tandem
