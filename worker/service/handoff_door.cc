#include "worker/service/handoff_door.h"

#include <grpcpp/grpcpp.h>

#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/address.h"
#include "base/clock.h"
#include "base/grpc_deadline.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "tandem/kv/v1/kv.grpc.pb.h"
#include "worker/service/handoff_messages.h"

namespace tandem {
namespace {

namespace pb = kv::v1;

// The sender's end of one link's control stream.
//   life    shared by the peer's thread and the courier's tasks; the destructor waits for OnDone
//   threads gRPC calls the reactions; mu_ is never held across a call out. A hold keeps the call
//           from being done while a write can still be started
//   order   one write in flight; what comes meanwhile waits, at most kMaxPending messages
class ClientStream final : public grpc::ClientBidiReactor<pb::HandoffRequest, pb::HandoffResponse>,
                           public ControlChannel<ToReceiver> {
 public:
  ClientStream(std::shared_ptr<grpc::Channel> channel, const LinkName& link, ControlEvents events)
      : stub_(pb::HandoffService::NewStub(channel)), link_(link), events_(std::move(events)) {
    pb::HandoffRequest open;
    *open.mutable_open() = ToProto(link_);
    pending_.push_back(std::move(open));
    stub_->async()->Handoff(&context_, this);
    AddHold();
    StartRead(&response_);
    StartCall();
    Pump();
  }
  ~ClientStream() override {
    Close(absl::OkStatus());
    MutexLock lock(&mu_);
    while (!done_) changed_.Wait(&mu_);
  }

  // OK once the peer has answered `open`.
  absl::Status WaitUntilOpen(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(&mu_);
    while (!open_ && !done_) {
      const absl::Duration left = deadline - RealClock()->Now();
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError("the peer did not open the control stream in time");
      }
      changed_.WaitFor(&mu_, left);
    }
    return open_ ? absl::OkStatus() : status_;
  }

  void Send(ToReceiver message) override {
    bool full = false;
    {
      MutexLock lock(&mu_);
      if (closed_) return;
      full = pending_.size() >= kMaxPending;
      if (!full) pending_.push_back(ToProto(message));
    }
    if (full) return Close(absl::OkStatus());
    Pump();
  }

  void Close(const absl::Status&) override {
    bool remove_hold = false;
    {
      MutexLock lock(&mu_);
      if (closed_) return;
      closed_ = true;
      pending_.clear();
      remove_hold = !busy_;
    }
    context_.TryCancel();
    if (remove_hold) RemoveHold();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Close(absl::OkStatus());  // OnDone says why
    bool first = false;
    {
      MutexLock lock(&mu_);
      first = !open_;
      open_ = open_ || (response_.has_opened() && FromProto(response_.opened()) == link_);
      if (!open_) status_ = absl::InternalError("the peer opened another link");
      changed_.NotifyAll();
    }
    if (!first) {
      absl::StatusOr<ToSender> message = FromProto(response_);
      if (!message.ok()) return Close(message.status());
      events_.on_message(link_, *std::move(message));
    }
    StartRead(&response_);
  }

  void OnWriteDone(bool ok) override {
    bool remove_hold = false;
    {
      MutexLock lock(&mu_);
      busy_ = false;
      remove_hold = closed_;
    }
    if (remove_hold) return RemoveHold();
    if (!ok) return Close(absl::OkStatus());
    Pump();
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status why = FromGrpcStatus(status);
    if (why.ok()) why = absl::UnavailableError("the peer closed the control stream");
    events_.on_closed(link_, why);
    MutexLock lock(&mu_);
    if (status_.ok()) status_ = why;
    done_ = true;
    changed_.NotifyAll();
  }

 private:
  static constexpr size_t kMaxPending = 8192;

  void Pump() ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(&mu_);
      if (busy_ || closed_ || pending_.empty()) return;
      busy_ = true;  // from here to OnWriteDone only this thread touches request_
      request_ = std::move(pending_.front());
      pending_.pop_front();
    }
    StartWrite(&request_);
  }

  const std::unique_ptr<pb::HandoffService::Stub> stub_;
  const LinkName link_;
  const ControlEvents events_;
  grpc::ClientContext context_;
  pb::HandoffRequest request_;    // gRPC's while busy_
  pb::HandoffResponse response_;  // the reader's

  Mutex mu_;
  CondVar changed_;
  std::deque<pb::HandoffRequest> pending_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  bool open_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;  // no write is started any more
  bool busy_ ABSL_GUARDED_BY(mu_) = false;    // writing
  bool done_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

absl::StatusOr<LinkGrant> GrpcControlDoor::Link(const std::string& peer, const LinkOffer& offer,
                                                absl::Time deadline) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ChannelTo(peer));
  const auto stub = pb::HandoffService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(ToGrpcDeadline(deadline));
  pb::LinkResponse response;
  const grpc::Status status = stub->Link(&context, ToProto(offer), &response);
  if (!status.ok()) return Annotate(FromGrpcStatus(status), absl::StrCat("link to ", peer));
  ASSIGN_OR_RETURN(LinkGrant grant, FromProto(response));
  if (const auto address = ParseHostPort(peer); address.ok()) grant.endpoint.host = address->host;
  return grant;
}

absl::StatusOr<std::shared_ptr<ControlChannel<ToReceiver>>> GrpcControlDoor::Open(
    const std::string& peer, const LinkName& link, ControlEvents events, absl::Time deadline) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ChannelTo(peer));
  auto stream = std::make_shared<ClientStream>(channel, link, std::move(events));
  RETURN_IF_ERROR(Annotate(stream->WaitUntilOpen(deadline), absl::StrCat("open link to ", peer)));
  return stream;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> GrpcControlDoor::ChannelTo(const std::string& peer) {
  MutexLock lock(&mu_);
  if (const auto found = channels_.find(peer); found != channels_.end()) return found->second;
  if (channels_.size() >= kMaxChannels) {
    std::erase_if(channels_, [](const auto& entry) { return entry.second.use_count() == 1; });
  }
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, dial_(peer));
  channels_[peer] = channel;
  return channel;
}

}  // namespace tandem
