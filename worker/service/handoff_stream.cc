#include "worker/service/handoff_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/grpc_deadline.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "worker/service/handoff_messages.h"

namespace tandem {

absl::Status UnlinkedStreams::Enter() {
  if (++count_ <= options_.max) return absl::OkStatus();
  --count_;
  return absl::UnavailableError(
      absl::StrCat("all ", options_.max, " handoff streams without a link are used"));
}

HandoffStream* HandoffStream::Start(Receiver* receiver, UnlinkedStreams* unlinked,
                                    grpc::CallbackServerContext* context) {
  const std::shared_ptr<HandoffStream> stream(new HandoffStream(receiver, context));
  stream->self_ = stream;
  if (const absl::Status entered = unlinked->Enter(); !entered.ok()) {
    stream->EndWith(entered);
    return stream.get();
  }
  stream->unlinked_ = unlinked;
  const absl::Duration timeout = unlinked->timeout();
  stream->late_.Set(ToGrpcDeadline(RealClock()->Now() + timeout),
                    [weak = std::weak_ptr<HandoffStream>(stream), timeout](bool late) {
                      const std::shared_ptr<HandoffStream> kept = late ? weak.lock() : nullptr;
                      if (kept == nullptr) return;
                      kept->EndWith(absl::UnavailableError(
                          absl::StrCat("a handoff stream that names no link within ",
                                       absl::FormatDuration(timeout), " is ended")));
                    });
  stream->StartRead(&stream->request_);
  return stream.get();
}

void HandoffStream::LeaveUnlinked() {
  if (unlinked_ == nullptr) return;
  late_.Cancel();
  std::exchange(unlinked_, nullptr)->Leave();
}

void HandoffStream::Send(ToSender message) { Queue(ToProto(message)); }

void HandoffStream::Queue(kv::v1::HandoffResponse response) {
  bool full = false;
  {
    MutexLock lock(&mu_);
    if (end_.has_value()) return;
    full = pending_.size() >= kMaxPending;
    if (!full) pending_.push_back(std::move(response));
  }
  if (full) return Close(absl::ResourceExhaustedError("the peer does not read its control stream"));
  Pump();
}

void HandoffStream::Close(const absl::Status& why) {
  bool stuck = false;
  {
    MutexLock lock(&mu_);
    if (end_.has_value()) return;
    end_ = why;
    pending_.clear();
    stuck = cancelling_ = busy_;  // perhaps for ever, if the peer does not read
  }
  if (stuck) {
    context_->TryCancel();  // lives until Finish, which waits for cancelling_
    MutexLock lock(&mu_);
    cancelling_ = false;
  }
  Pump();
}

void HandoffStream::EndWith(const absl::Status& why) {
  {
    MutexLock lock(&mu_);
    if (end_.has_value()) return;
    end_ = why;
    pending_.clear();
  }
  Pump();
}

void HandoffStream::Pump() {
  std::optional<absl::Status> end;
  {
    MutexLock lock(&mu_);
    if (busy_ || cancelling_ || (pending_.empty() && !end_.has_value())) return;
    busy_ = true;  // from here to OnWriteDone only this thread touches response_
    if (pending_.empty()) {
      end = end_;
    } else {
      response_ = std::move(pending_.front());
      pending_.pop_front();
    }
  }
  if (end.has_value()) return Finish(ToGrpcStatus(*end));
  StartWrite(&response_);
}

void HandoffStream::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mu_);
    busy_ = false;
  }
  if (!ok) EndWith(absl::UnavailableError("the peer left"));
  Pump();
}

void HandoffStream::OnReadDone(bool ok) {
  const absl::Status taken = ok ? Take() : absl::UnavailableError("the peer left");
  if (!taken.ok()) {
    EndWith(taken);
    // Told at once: what the link had reserved is free long before gRPC is done with the call.
    if (link_.has_value()) receiver_->OnControlClosed(*link_, taken);
    return;
  }
  StartRead(&request_);
}

absl::Status HandoffStream::Take() {
  if (link_.has_value()) {
    ASSIGN_OR_RETURN(ToReceiver message, FromProto(request_));
    receiver_->OnMessage(*link_, std::move(message));
    return absl::OkStatus();
  }
  if (!request_.has_open()) {
    return absl::InvalidArgumentError("the first message of a handoff stream is `open`");
  }
  const LinkName link = FromProto(request_.open());
  RETURN_IF_ERROR(receiver_->Attach(link, self_));
  link_ = link;
  LeaveUnlinked();
  kv::v1::HandoffResponse opened;
  *opened.mutable_opened() = ToProto(link);
  Queue(std::move(opened));
  return absl::OkStatus();
}

void HandoffStream::OnCancel() { EndWith(absl::CancelledError("the peer cancelled the stream")); }

void HandoffStream::OnDone() {
  const std::shared_ptr<HandoffStream> last = std::move(self_);
  LeaveUnlinked();
  if (link_.has_value()) receiver_->OnControlClosed(*link_, absl::UnavailableError("it closed"));
}

}  // namespace tandem
