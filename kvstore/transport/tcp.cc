#include "kvstore/transport/tcp.h"

#include <openssl/crypto.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <list>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/thread.h"
#include "kvstore/transport/tcp_land.h"
#include "kvstore/transport/tcp_push.h"

namespace tandem {
namespace {

constexpr uint32_t kStrangers = 16;  // connections that have not said hello yet
constexpr absl::Duration kBetweenWarnings = absl::Seconds(1);  // of connections without a thread

constexpr TransportCapabilities kTcp = {.name = "tcp",
                                        .crosses_hosts = true,
                                        .encrypts = false,
                                        .peer_writes_window = false,
                                        .best_frame_bytes = 256 << 10,
                                        .max_window_bytes = uint64_t{4} << 30};

absl::Status CheckSafe(const SocketAddress& address, bool insecure) {
  if (insecure || address.IsLoopback()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("KV transport address ", address.ToString(),
                   " is not loopback, and KV would travel unencrypted; use 127.0.0.1, or allow it "
                   "with the insecure option on a network that you trust"));
}

class TcpTransport final : public Transport {
 public:
  TcpTransport(const TcpTransportOptions& options, Socket listener, Socket wake,
               std::string address)
      : options_(options),
        listener_(std::move(listener)),
        wake_(std::move(wake)),
        address_(std::move(address)) {}

  // Nobody is let in before.
  absl::Status Start() {
    ASSIGN_OR_RETURN(accepter_, StartThread("the KV transport", [this] { AcceptLoop(); }));
    return absl::OkStatus();
  }

  ~TcpTransport() override {
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      for (const Connection& connection : connections_) connection.socket.ShutDown();
    }
    (void)eventfd_write(wake_.fd(), 1);
    if (accepter_.joinable()) accepter_.join();
    MutexLock lock(&mu_);
    while (Reap() > 0) ended_.Wait(&mu_);
  }

  const TransportCapabilities& capabilities() const override { return kTcp; }
  std::string address() const override { return address_; }

  absl::StatusOr<std::unique_ptr<PushConnection>> Connect(const TransportEndpoint& peer,
                                                          absl::Time deadline) override {
    ASSIGN_OR_RETURN(const SocketAddress address, SocketAddress::Parse(peer.address));
    RETURN_IF_ERROR(CheckSafe(address, options_.insecure));
    return ConnectTcpPush(peer, address, deadline);
  }

  absl::Status Admit(const Landing& landing, FrameSink* sink) override {
    if (landing.window_bytes == 0 || landing.window_bytes > kTcp.max_window_bytes) {
      return absl::InvalidArgumentError(absl::StrCat("KV landing window of ", landing.window_bytes,
                                                     " bytes: want 1 to ", kTcp.max_window_bytes));
    }
    MutexLock lock(&mu_);
    if (links_.size() >= options_.max_links) {
      return absl::UnavailableError(absl::StrCat("all ", options_.max_links, " KV links are used"));
    }
    if (!links_.try_emplace(landing.link.link_id, Link{landing, sink}).second) {
      return absl::AlreadyExistsError(absl::StrCat("KV link ", landing.link.link_id, " exists"));
    }
    return absl::OkStatus();
  }

  void Retire(const LinkName& name) override {
    MutexLock lock(&mu_);
    while (true) {
      const auto found = links_.find(name.link_id);
      if (found == links_.end() || found->second.landing.link != name) return;
      Link& link = found->second;
      link.retired = true;
      if (link.connection == nullptr) {
        links_.erase(found);
        return;
      }
      link.connection->socket.ShutDown();
      ended_.Wait(&mu_);
    }
  }

 private:
  struct Connection {
    Socket socket;
    std::thread thread;
    bool finished = false;  // the thread touches nothing of ours any more but its own end
  };
  struct Link {
    Landing landing;
    FrameSink* sink = nullptr;
    Connection* connection = nullptr;  // while its thread may call the sink
    bool claimed = false;              // one connection a link
    bool retired = false;
  };

  void AcceptLoop() {
    absl::Time quiet_until = absl::InfinitePast();
    while (true) {
      pollfd fds[] = {{listener_.fd(), POLLIN, 0}, {wake_.fd(), POLLIN, 0}};
      (void)poll(fds, 2, -1);
      Socket socket(accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      absl::Status served;
      {
        MutexLock lock(&mu_);
        if (stopping_) return;
        served = Accept(std::move(socket));
      }
      const absl::Time now = RealClock()->Now();
      if (served.ok() || now < quiet_until) continue;
      quiet_until = now + kBetweenWarnings;
      LogWarning("kv connections are closed", {{"why", served}});
    }
  }

  // Gives the connection a thread, or closes it: with an error, if there is no thread to be had.
  absl::Status Accept(Socket socket) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const size_t connections = Reap();
    if (!socket.open()) {
      // Out of descriptors, or the peer left: wait a moment for either to change.
      ended_.WaitFor(&mu_, absl::Milliseconds(10));
      return absl::OkStatus();
    }
    if (connections >= options_.max_links + kStrangers) return absl::OkStatus();
    Connection& connection = connections_.emplace_back();
    connection.socket = std::move(socket);
    absl::StatusOr<std::thread> thread =
        StartThread("a KV connection", [this, &connection] { Serve(&connection); });
    if (thread.ok()) {
      connection.thread = *std::move(thread);
    } else {
      connections_.pop_back();
    }
    return thread.status();
  }

  // Frees the connections that ended; returns how many are left.
  size_t Reap() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (auto it = connections_.begin(); it != connections_.end();) {
      if (it->finished) it->thread.join();
      it = it->finished ? connections_.erase(it) : std::next(it);
    }
    return connections_.size();
  }

  void Serve(Connection* connection) {
    const absl::Status why = Converse(connection);
    LogDebug("kv connection ended", {{"why", why}});
    MutexLock lock(&mu_);
    connection->socket = Socket();  // closes it
    connection->finished = true;
    ended_.NotifyAll();
  }

  absl::Status Converse(Connection* connection) {
    const Socket& socket = connection->socket;
    RETURN_IF_ERROR(ConfigureStream(socket));
    absl::StatusOr<wire::Hello> hello = ReadHello(socket, options_.handshake_timeout);
    if (!hello.ok()) return hello.status();
    absl::StatusOr<Link> link = Claim(*hello, connection);
    const PushLimits limits{.stall = options_.stall_timeout};
    absl::Status why = socket.WriteAll(wire::Encode(wire::Welcome{hello->link, link.ok()}), limits);
    if (!link.ok()) return link.status();
    if (why.ok()) why = LandFrames(socket, link->landing, options_.stall_timeout, link->sink);
    Leave(hello->link, why);
    return why;
  }

  absl::StatusOr<Link> Claim(const wire::Hello& hello, Connection* connection) {
    MutexLock lock(&mu_);
    const auto found = links_.find(hello.link.link_id);
    const bool known = found != links_.end() && found->second.landing.link == hello.link;
    const Bytes16 token = known ? found->second.landing.token : Bytes16{};
    const bool equal = CRYPTO_memcmp(token.data(), hello.token.data(), token.size()) == 0;
    if (!known || !equal || found->second.claimed || found->second.retired || stopping_) {
      return absl::PermissionDeniedError("hello with an unknown link, epoch or token");
    }
    found->second.connection = connection;
    found->second.claimed = true;
    return found->second;
  }

  // Tells the sink that the connection ended, unless Retire was what ended it.
  void Leave(const LinkName& name, const absl::Status& why) {
    FrameSink* sink = nullptr;
    {
      MutexLock lock(&mu_);
      const Link& link = links_.at(name.link_id);
      if (!link.retired) sink = link.sink;
    }
    if (sink != nullptr) sink->OnLinkClosed(name, why);
    MutexLock lock(&mu_);
    links_.at(name.link_id).connection = nullptr;
    ended_.NotifyAll();
  }

  const TcpTransportOptions options_;
  const Socket listener_, wake_;
  const std::string address_;

  Mutex mu_;
  CondVar ended_;  // a connection finished, or let go of its link
  std::list<Connection> connections_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, Link> links_ ABSL_GUARDED_BY(mu_);  // by link id
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::thread accepter_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> MakeTcpTransport(const TcpTransportOptions& options) {
  ASSIGN_OR_RETURN(const SocketAddress wanted, SocketAddress::Parse(options.listen));
  RETURN_IF_ERROR(CheckSafe(wanted, options.insecure));
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
  Socket wake(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake.open()) return ErrnoStatus(errno, "eventfd");
  auto transport = std::make_unique<TcpTransport>(options, std::move(listener), std::move(wake),
                                                  std::move(address));
  RETURN_IF_ERROR(transport->Start());
  return transport;
}

}  // namespace tandem
