#include "base/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "base/certificates.h"
#include "base/clock.h"
#include "base/grpc_channel.h"
#include "base/grpc_deadline.h"
#include "base/grpc_tls.h"
#include "base/status.h"
#include "base/tls_config.h"
#include "grpc/health/v1/health.pb.h"

namespace tandem {
namespace {

// The reflection library adds itself to every server of a process that links it; this takes it out
// where it is not wanted.
class NoReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins, [](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
      return plugin->name() == grpc::reflection::ProtoServerReflectionPlugin().name();
    });
  }
};

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> Credentials(
    const config::v1::ServerConfig& config, bool loopback) {
  ASSIGN_OR_RETURN(TlsSettings tls, TlsSettingsOf(config.tls(), "server.tls"));
  if (!tls.cert_file.empty() || !tls.key_file.empty()) {
    ASSIGN_OR_RETURN(auto certificates, Certificates::Watch(std::move(tls)));
    return TlsServerCredentials(std::move(certificates));
  }
  if (loopback || config.insecure()) return grpc::InsecureServerCredentials();
  return absl::InvalidArgumentError(absl::StrCat(
      "server.listen: ", config.listen(),
      " can be reached from other machines, so it needs TLS: set server.tls.cert_file and "
      "server.tls.key_file, or listen on 127.0.0.1, or set server.insecure to true"));
}

void AddArguments(const GrpcServer::Options& options, grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  if (options.max_buffer_bytes > 0) {
    builder->SetResourceQuota(
        grpc::ResourceQuota("tandem_server").Resize(options.max_buffer_bytes));
  }
  // Peers ping every 10 s, also while no call runs; 5 s leaves room for jitter.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  // Else two processes could share a port without either noticing.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

}  // namespace

struct GrpcServer::Impl {
  std::unique_ptr<grpc::Server> server;
  std::atomic<bool> stopped = false;
};

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const config::v1::ServerConfig& config, const Options& options) {
  absl::StatusOr<HostPort> address = ParseHostPort(config.listen());
  RETURN_IF_ERROR(Annotate(address.status(), "server.listen"));
  const bool loopback = IsLoopback(address->host);
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials,
                   Credentials(config, loopback));
  KeepCallbackThreads();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  // gRPC serves health without a descriptor; naming ours puts it where reflection looks.
  grpc::health::v1::HealthCheckRequest::descriptor();
  grpc::ServerBuilder builder;
  AddArguments(options, &builder);
  if (!loopback && !config.reflection()) builder.SetOption(std::make_unique<NoReflection>());
  int port = 0;
  builder.AddListeningPort(address->ToString(), credentials, &port);
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  auto impl = std::make_unique<Impl>();
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr || port == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("server.listen: cannot listen on ", config.listen(),
                     "; another process may use the port, or the host is not of this machine"));
  }
  address->port = static_cast<uint16_t>(port);
  auto server = std::unique_ptr<GrpcServer>(new GrpcServer(*std::move(address), std::move(impl)));
  server->SetServing(false);
  return server;
}

GrpcServer::GrpcServer(HostPort address, std::unique_ptr<Impl> impl)
    : address_(std::move(address)), impl_(std::move(impl)) {}

GrpcServer::~GrpcServer() { Shutdown(absl::Seconds(1)); }

void GrpcServer::SetServing(bool serving) {
  impl_->server->GetHealthCheckService()->SetServingStatus(serving);
}

void GrpcServer::Shutdown(absl::Duration grace) {
  if (impl_->stopped.exchange(true)) return;
  SetServing(false);
  impl_->server->Shutdown(ToGrpcDeadline(RealClock()->Now() + grace));
}

}  // namespace tandem
