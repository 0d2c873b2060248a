#include "worker/service/handoff_service.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/address.h"
#include "base/grpc_channel.h"
#include "base/grpc_status.h"
#include "base/grpc_tls.h"
#include "base/log.h"
#include "base/status.h"
#include "kvstore/transport/shm.h"
#include "kvstore/transport/tcp.h"
#include "tandem/kv/v1/kv.grpc.pb.h"
#include "worker/service/handoff_door.h"
#include "worker/service/handoff_messages.h"
#include "worker/service/handoff_stream.h"

namespace tandem {
namespace {

namespace pb = kv::v1;

class HandoffService final : public pb::HandoffService::CallbackService {
 public:
  HandoffService(Receiver* receiver, const UnlinkedStreams::Options& options)
      : receiver_(receiver), unlinked_(options) {}

  grpc::ServerUnaryReactor* Link(grpc::CallbackServerContext* context,
                                 const pb::LinkRequest* request,
                                 pb::LinkResponse* response) override {
    const auto answer = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(const LinkOffer offer, FromProto(*request));
      ASSIGN_OR_RETURN(const LinkGrant grant, receiver_->AcceptLink(offer));
      *response = ToProto(grant);
      return absl::OkStatus();
    };
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(answer()));
    return reactor;
  }

  grpc::ServerBidiReactor<pb::HandoffRequest, pb::HandoffResponse>* Handoff(
      grpc::CallbackServerContext* context) override {
    return HandoffStream::Start(receiver_, &unlinked_, context);
  }

 private:
  Receiver* const receiver_;
  UnlinkedStreams unlinked_;
};

// Makes channels to other workers.
GrpcControlDoor::Dial DialWith(const HandoffOptions& options) {
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  if (options.tls.connect != nullptr) credentials = TlsChannelCredentials(options.tls.connect);
  return [insecure = options.insecure,
          credentials](const std::string& peer) -> absl::StatusOr<std::shared_ptr<grpc::Channel>> {
    ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(peer));
    if (credentials == nullptr && !insecure && !IsLoopback(address.host)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "handoff to ", peer,
          ": not loopback, so it needs TLS: set server.tls and peer_tls, or allow it in the clear "
          "with server.insecure on a network that you trust"));
    }
    return MakeChannel(peer, {.credentials = credentials, .max_message_bytes = 1 << 20});
  };
}

class WorkerHandoffs final : public Handoffs {
 public:
  WorkerHandoffs(BlockMemory* memory, std::unique_ptr<Transport> tcp,
                 std::unique_ptr<Transport> shm, const HandoffOptions& options)
      : tcp_(std::move(tcp)),
        shm_(std::move(shm)),
        door_(DialWith(options)),
        receiver_(memory, InOrder(),
                  {.incarnation = options.incarnation, .window_bytes = options.window_bytes}),
        sender_(memory, InOrder(), &door_,
                {.incarnation = options.incarnation,
                 .name = options.name,
                 .push_timeout = options.push_timeout,
                 .on_phase = options.on_phase}),
        service_(&receiver_,
                 {.max = options.max_unlinked_streams, .timeout = options.unlinked_timeout}) {}

  HandoffSender* sender() override { return &sender_; }
  HandoffReceiver* receiver() override { return &receiver_; }
  grpc::Service* service() override { return &service_; }
  std::string transport_address() const override { return tcp_->address(); }
  SenderCounters sent() const override { return sender_.counters(); }
  ReceiverCounters received() const override { return receiver_.counters(); }

 private:
  Transports InOrder() const {
    if (shm_ == nullptr) return {tcp_.get()};
    return {shm_.get(), tcp_.get()};
  }

  const std::unique_ptr<Transport> tcp_;
  const std::unique_ptr<Transport> shm_;  // null when it is not offered
  GrpcControlDoor door_;
  Receiver receiver_;
  Sender sender_;
  HandoffService service_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Handoffs>> MakeHandoffs(BlockMemory* memory,
                                                       const HandoffOptions& options) {
  absl::StatusOr<std::unique_ptr<Transport>> tcp =
      MakeTcpTransport({.listen = options.transfer_listen,
                        .advertise_host = options.advertise_host,
                        .listen_tls = options.tls.listen,
                        .connect_tls = options.tls.connect,
                        .insecure = options.insecure,
                        .connections = options.connections});
  RETURN_IF_ERROR(Annotate(tcp.status(), "kv.transfer_listen"));
  absl::StatusOr<std::unique_ptr<Transport>> shm = nullptr;
  if (options.shm) shm = MakeShmTransport({.directory = options.shm_directory});
  if (!shm.ok()) {
    if (!options.shm_directory.empty()) return Annotate(shm.status(), "kv.shm_directory");
    LogWarning("kv transport shm is not offered", {{"why", shm.status()}});
    shm = nullptr;
  }
  return std::make_unique<WorkerHandoffs>(memory, *std::move(tcp), *std::move(shm), options);
}

}  // namespace tandem
