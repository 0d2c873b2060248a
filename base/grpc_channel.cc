#include "base/grpc_channel.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "base/certificates.h"
#include "base/grpc_tls.h"
#include "base/status.h"
#include "base/tls_config.h"

namespace tandem {
namespace {

// A channel starts the threads with its first call: this one's deadline has passed.
struct EndedCall {
  EndedCall() : stub(grpc::CreateChannel("unix:/", grpc::InsecureChannelCredentials())) {
    context.set_deadline(gpr_now(GPR_CLOCK_MONOTONIC));
    stub.UnaryCall(&context, "/none/None", {}, &request, &response, [](const grpc::Status&) {});
  }

  grpc::GenericStub stub;
  grpc::ClientContext context;
  grpc::Slice nothing;
  grpc::ByteBuffer request{&nothing, 1}, response;
};

}  // namespace

void KeepCallbackThreads() {
  static const EndedCall* const kept = new EndedCall;
  (void)kept;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const config::v1::ClientTlsConfig& tls, const std::string& section) {
  ASSIGN_OR_RETURN(TlsSettings settings, TlsSettingsOf(tls, section));
  if (settings.ca_file.empty()) return grpc::InsecureChannelCredentials();
  ASSIGN_OR_RETURN(auto certificates, Certificates::Watch(std::move(settings)));
  return TlsChannelCredentials(std::move(certificates));
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target,
                                           const ChannelOptions& options) {
  KeepCallbackThreads();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A worker that restarts is back within a second or two; the library would wait up to 2 minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  if (!options.server_name.empty()) arguments.SetSslTargetNameOverride(options.server_name);
  return grpc::CreateCustomChannel(
      target,
      options.credentials != nullptr ? options.credentials : grpc::InsecureChannelCredentials(),
      arguments);
}

}  // namespace tandem
