#include "client/client.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "base/clock.h"
#include "base/grpc_channel.h"
#include "base/grpc_deadline.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "client/tls_probe.h"
#include "tandem/inference/v1/inference.grpc.pb.h"

namespace tandem {
namespace v1 = inference::v1;
namespace {

constexpr size_t kMessageBytesMax = 128 << 20;  // prompt log-probabilities of a long prompt

constexpr absl::Duration kProbeTimeout = absl::Seconds(2);

gpr_timespec Deadline(absl::Duration from_now) {
  return ToGrpcDeadline(RealClock()->Now() + from_now);
}

// Owns itself from Start() to the end of the call.
class Generation final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Generation(v1::GenerateRequest request, std::unique_ptr<GenerateListener> listener)
      : request_(std::move(request)), listener_(std::move(listener)) {}

  // Returns what cancels it, which keeps nothing of it alive.
  static std::function<void()> Start(std::shared_ptr<Generation> call,
                                     v1::InferenceService::Stub* stub, absl::Duration timeout) {
    call->context_.set_deadline(Deadline(timeout));
    call->self_ = call;
    stub->async()->Generate(&call->context_, &call->request_, call.get());
    call->StartRead(&call->response_);
    call->StartCall();
    return [weak = std::weak_ptr<Generation>(call)] {
      if (const auto running = weak.lock()) running->context_.TryCancel();
    };
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    listener_->OnResponse(response_);
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    const auto last = std::move(self_);
    listener_->OnEnd(FromGrpcStatus(status));
  }

 private:
  const v1::GenerateRequest request_;
  const std::unique_ptr<GenerateListener> listener_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  std::shared_ptr<Generation> self_;
};

}  // namespace

struct Client::Connection {
  explicit Connection(std::shared_ptr<grpc::Channel> to)
      : channel(std::move(to)), stub(v1::InferenceService::NewStub(channel)) {}

  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::InferenceService::Stub> stub;
};

absl::StatusOr<std::unique_ptr<Client>> Client::Create(Options options) {
  config::v1::ClientTlsConfig tls;
  tls.set_ca_file(options.ca_file);
  tls.set_cert_file(options.cert_file);
  tls.set_key_file(options.key_file);
  if (options.ca_file.empty() && !options.server_name.empty()) {
    return absl::InvalidArgumentError("ca_file: has to be set too: server_name is for TLS");
  }
  ASSIGN_OR_RETURN(auto credentials, MakeChannelCredentials(tls, ""));
  auto channel = MakeChannel(options.endpoint, {.credentials = std::move(credentials),
                                                .max_message_bytes = kMessageBytesMax,
                                                .server_name = options.server_name});
  return std::unique_ptr<Client>(
      new Client(std::move(options), std::make_unique<Connection>(std::move(channel))));
}

Client::Client(Options options, std::unique_ptr<Connection> connection)
    : options_(std::move(options)), connection_(std::move(connection)) {}
Client::~Client() = default;

absl::Status Client::WaitUntilConnected() {
  grpc::Channel& channel = *connection_->channel;
  const auto deadline = Deadline(options_.connect_timeout);
  bool in_time = true;
  grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true);
  // A refused connection ends the wait: who asks a cluster that is still starting can ask again.
  while (state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE && in_time) {
    in_time = channel.WaitForStateChange(state, deadline);
    state = channel.GetState(/*try_to_connect=*/true);
  }
  return state == GRPC_CHANNEL_READY ? absl::OkStatus() : WhyNotConnected();
}

absl::Status Client::WhyNotConnected() const {
  const bool tls = !options_.ca_file.empty();
  const Listener listener = ProbeListener(options_.endpoint, kProbeTimeout);
  std::string why =
      absl::StrCat("nothing answers at ", options_.endpoint,
                   "; is a cluster running (tandem serve), and is the endpoint right?");
  if (listener == Listener::kTls && !tls) {
    why = absl::StrCat(options_.endpoint, " speaks TLS: name a file with the authority that its ",
                       "certificate comes from (--ca-file)");
  } else if (listener == Listener::kTls) {
    why =
        absl::StrCat(options_.endpoint, " speaks TLS, but the two did not agree: its certificate ",
                     "has to come from an authority in --ca-file and to be for this host or ",
                     "--server-name; it may ask for a certificate too (--cert-file, --key-file)");
  } else if (listener == Listener::kOther && tls) {
    why = absl::StrCat(options_.endpoint, " does not speak TLS: leave --ca-file out, if all that ",
                       "lies between is to be trusted");
  }
  return absl::UnavailableError(why);
}

absl::Status Client::Generate(const v1::GenerateRequest& request, OnResponse on_response) {
  RETURN_IF_ERROR(WaitUntilConnected());
  grpc::ClientContext context;
  const auto reader = connection_->stub->Generate(&context, request);
  v1::GenerateResponse response;
  bool wanted = true;
  while (wanted && reader->Read(&response)) wanted = on_response(response);
  if (!wanted) context.TryCancel();
  const absl::Status status = FromGrpcStatus(reader->Finish());
  return wanted ? status : absl::CancelledError("stopped by the reader");
}

std::function<void()> Client::Begin(v1::GenerateRequest request, absl::Duration timeout,
                                    std::unique_ptr<GenerateListener> listener) {
  return Generation::Start(std::make_shared<Generation>(std::move(request), std::move(listener)),
                           connection_->stub.get(), timeout);
}

absl::StatusOr<v1::ListModelsResponse> Client::ListModels() {
  RETURN_IF_ERROR(WaitUntilConnected());
  grpc::ClientContext context;
  context.set_deadline(Deadline(options_.connect_timeout));
  v1::ListModelsRequest request;
  request.set_page_size(1000);
  v1::ListModelsResponse response;
  RETURN_IF_ERROR(FromGrpcStatus(connection_->stub->ListModels(&context, request, &response)));
  return response;
}

}  // namespace tandem
