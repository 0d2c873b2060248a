#include "kvstore/transport/shm.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kvstore/transport/land.h"
#include "kvstore/transport/landing_server.h"
#include "kvstore/transport/shm_folder.h"
#include "kvstore/transport/shm_push.h"
#include "kvstore/transport/shm_window.h"
#include "kvstore/transport/unix_socket.h"
#include "kvstore/transport/wire.h"

namespace tandem {
namespace {

// A ring that is no larger stays in the caches between its two processes.
constexpr uint64_t kBestWindowBytes = 8 << 20;

constexpr TransportCapabilities kShm = {.name = "shm",
                                        .crosses_hosts = false,
                                        .encrypts = false,
                                        .peer_writes_window = true,
                                        .best_frame_bytes = 256 << 10,
                                        .best_window_bytes = kBestWindowBytes,
                                        .max_window_bytes = uint64_t{4} << 30};

// One link from its first byte to its last, at the receiver.
absl::Status Converse(const Socket& socket, const LandingServer::Claim& claim,
                      const ShmTransportOptions& options) {
  RETURN_IF_ERROR(CheckPeerUser(socket, geteuid()));
  const std::unique_ptr<Stream> stream = MakePlainStream(socket);
  ASSIGN_OR_RETURN(const wire::Hello hello, ReadHello(stream.get(), options.handshake_timeout));
  const PushLimits limits{.stall = options.stall_timeout};
  const absl::StatusOr<LandingServer::Link> link = claim(hello);
  if (!link.ok()) {
    (void)WriteAll(socket, wire::Encode(wire::Welcome{hello.link, false}), limits);
    return link.status();
  }
  ASSIGN_OR_RETURN(const ShmWindow window, ShmWindow::Create(link->landing.window_bytes));
  RETURN_IF_ERROR(WriteWithDescriptor(socket, wire::Encode(wire::Welcome{hello.link, true}),
                                      window.file().fd(), limits));
  uint64_t landed = 0;  // payload bytes
  const auto take = [&](const FrameHeader& header) -> absl::StatusOr<absl::Span<const uint8_t>> {
    return window.Landed(std::exchange(landed, landed + header.payload_bytes),
                         header.payload_bytes);
  };
  return LandFrames(stream.get(), link->landing, options.stall_timeout, take, link->sink);
}

class ShmTransport final : public Transport {
 public:
  ShmTransport(ShmFolder folder, std::string name, std::unique_ptr<LandingServer> server)
      : folder_(std::move(folder)), name_(std::move(name)), server_(std::move(server)) {}
  ~ShmTransport() override { folder_.Remove(name_); }

  const TransportCapabilities& capabilities() const override { return kShm; }
  std::string address() const override { return name_; }

  absl::StatusOr<std::unique_ptr<PushConnection>> Connect(const TransportEndpoint& peer,
                                                          absl::Time deadline) override {
    ASSIGN_OR_RETURN(Socket socket, folder_.Connect(peer.address));
    RETURN_IF_ERROR(Annotate(CheckPeerUser(socket, geteuid()), peer.address));
    auto push = OpenShmPush(std::move(socket), peer, deadline);
    if (!push.ok()) return Annotate(push.status(), absl::StrCat("KV hello to ", peer.address));
    return push;
  }
  absl::Status Admit(const Landing& landing, FrameSink* sink) override {
    return server_->Admit(landing, sink);
  }
  void Retire(const LinkName& link) override { server_->Retire(link); }

 private:
  const ShmFolder folder_;
  const std::string name_;
  const std::unique_ptr<LandingServer> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> MakeShmTransport(const ShmTransportOptions& options) {
  ASSIGN_OR_RETURN(ShmFolder folder, ShmFolder::Open(options.directory));
  folder.RemoveDead();
  ASSIGN_OR_RETURN(ShmFolder::Listener listener, folder.Listen());
  absl::StatusOr<std::unique_ptr<LandingServer>> server = LandingServer::Start(
      {.max_links = options.max_links, .max_window_bytes = kShm.max_window_bytes},
      std::move(listener.socket),
      [options](const Socket& socket, const LandingServer::Claim& claim) {
        return Converse(socket, claim, options);
      });
  if (!server.ok()) {
    folder.Remove(listener.name);
    return server.status();
  }
  return std::make_unique<ShmTransport>(std::move(folder), std::move(listener.name),
                                        *std::move(server));
}

}  // namespace tandem
