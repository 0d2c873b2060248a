#include "kvstore/transport/tcp.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"
#include "kvstore/transport/land.h"
#include "kvstore/transport/landing_server.h"
#include "kvstore/transport/tcp_push.h"
#include "kvstore/transport/tls_stream.h"

namespace tandem {
namespace {

constexpr TransportCapabilities kTcp = {.name = "tcp",
                                        .crosses_hosts = true,
                                        .encrypts = false,
                                        .peer_writes_window = false,
                                        .best_frame_bytes = 256 << 10,
                                        .best_window_bytes = uint64_t{4} << 30,
                                        .max_window_bytes = uint64_t{4} << 30};

TransportCapabilities CapabilitiesOf(const TcpTransportOptions& options) {
  TransportCapabilities capabilities = kTcp;
  capabilities.encrypts = options.listen_tls != nullptr;
  capabilities.connections = options.connections;
  return capabilities;
}

absl::Status CheckSafe(const SocketAddress& address, const TcpTransportOptions& options) {
  if (options.insecure || options.listen_tls != nullptr || address.IsLoopback()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "KV transport address ", address.ToString(),
      " is not loopback, so it needs TLS: set server.tls.cert_file, server.tls.key_file and "
      "server.tls.client_ca_file, or use 127.0.0.1, or allow KV in the clear with server.insecure "
      "on a network that you trust"));
}

// One connection of a link from its first byte to its last, at the receiver.
absl::Status Converse(const Socket& socket, const LandingServer::Claim& claim,
                      const TcpTransportOptions& options) {
  RETURN_IF_ERROR(ConfigureStream(socket));
  std::unique_ptr<Stream> stream = MakePlainStream(socket);
  if (options.listen_tls != nullptr) {
    ASSIGN_OR_RETURN(stream, AcceptTls(socket, *options.listen_tls,
                                       RealClock()->Now() + options.handshake_timeout));
  }
  ASSIGN_OR_RETURN(const wire::Hello hello, ReadHello(stream.get(), options.handshake_timeout));
  const PushLimits limits{.stall = options.stall_timeout};
  const absl::StatusOr<LandingServer::Link> link = claim(hello);
  const absl::Status answered =
      WriteAll(*stream, wire::Encode(wire::Welcome{hello.link, link.ok()}), limits);
  if (!link.ok()) return link.status();
  RETURN_IF_ERROR(answered);
  const auto window = std::make_unique_for_overwrite<uint8_t[]>(link->landing.window_bytes);
  const auto take = [&](const FrameHeader& header) -> absl::StatusOr<absl::Span<const uint8_t>> {
    const absl::Span<uint8_t> landed(window.get(), header.payload_bytes);
    RETURN_IF_ERROR(ReadAll(*stream, landed, limits));
    return landed;
  };
  return LandFrames(stream.get(), link->landing, options.stall_timeout, take, link->sink);
}

class TcpTransport final : public Transport {
 public:
  TcpTransport(const TcpTransportOptions& options, std::string address)
      : options_(options), capabilities_(CapabilitiesOf(options)), address_(std::move(address)) {}

  // Nobody is let in before.
  absl::Status Start(Socket listener) {
    ASSIGN_OR_RETURN(server_, LandingServer::Start(
                                  {.max_links = options_.max_links,
                                   .max_window_bytes = capabilities_.max_window_bytes,
                                   .max_connections = capabilities_.connections},
                                  std::move(listener),
                                  [this](const Socket& socket, const LandingServer::Claim& claim) {
                                    return Converse(socket, claim, options_);
                                  }));
    return absl::OkStatus();
  }

  const TransportCapabilities& capabilities() const override { return capabilities_; }
  std::string address() const override { return address_; }

  absl::StatusOr<std::unique_ptr<PushConnection>> Connect(const TransportEndpoint& peer,
                                                          absl::Time deadline) override {
    ASSIGN_OR_RETURN(const SocketAddress address, SocketAddress::Parse(peer.address));
    RETURN_IF_ERROR(CheckSafe(address, options_));
    return ConnectTcpPush(peer, address, options_.connect_tls.get(), deadline);
  }
  absl::Status Admit(const Landing& landing, FrameSink* sink) override {
    return server_->Admit(landing, sink);
  }
  void Retire(const LinkName& link) override { server_->Retire(link); }

 private:
  const TcpTransportOptions options_;
  const TransportCapabilities capabilities_;
  const std::string address_;
  std::unique_ptr<LandingServer> server_;  // ends first
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> MakeTcpTransport(const TcpTransportOptions& options) {
  if (options.connections == 0 || options.connections > TcpTransportOptions::kMaxConnections) {
    return absl::InvalidArgumentError(absl::StrCat("KV links of ", options.connections,
                                                   " connections: want 1 to ",
                                                   TcpTransportOptions::kMaxConnections));
  }
  ASSIGN_OR_RETURN(const SocketAddress wanted, SocketAddress::Parse(options.listen));
  RETURN_IF_ERROR(CheckSafe(wanted, options));
  if (wanted.IsWildcard() && options.advertise_host.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("KV transport listens on ", options.listen,
                                                   ", which is no address to connect to: set "
                                                   "kv.advertise_host"));
  }
  ASSIGN_OR_RETURN(Socket listener, Socket::Listen(wanted));
  ASSIGN_OR_RETURN(const SocketAddress bound, listener.LocalAddress());
  std::string address = bound.ToString();
  if (!options.advertise_host.empty()) {
    address = absl::StrCat(options.advertise_host, address.substr(address.rfind(':')));
    RETURN_IF_ERROR(SocketAddress::Parse(address));
  }
  auto transport = std::make_unique<TcpTransport>(options, std::move(address));
  RETURN_IF_ERROR(transport->Start(std::move(listener)));
  return transport;
}

}  // namespace tandem
