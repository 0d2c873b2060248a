#include "kvstore/transport/landing_server.h"

#include <openssl/crypto.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "base/thread.h"

namespace tandem {
namespace {

constexpr uint32_t kStrangers = 16;  // connections that have not said hello yet
constexpr absl::Duration kBetweenWarnings = absl::Seconds(1);  // of connections without a thread

}  // namespace

LandingServer::LandingServer(const Options& options, Socket listener, Socket wake,
                             Converse converse)
    : options_(options),
      listener_(std::move(listener)),
      wake_(std::move(wake)),
      converse_(std::move(converse)) {}

absl::StatusOr<std::unique_ptr<LandingServer>> LandingServer::Start(const Options& options,
                                                                    Socket listener,
                                                                    Converse converse) {
  Socket wake(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake.open()) return ErrnoStatus(errno, "eventfd");
  std::unique_ptr<LandingServer> server(
      new LandingServer(options, std::move(listener), std::move(wake), std::move(converse)));
  ASSIGN_OR_RETURN(server->accepter_,
                   StartThread("the KV transport", [raw = server.get()] { raw->AcceptLoop(); }));
  return server;
}

LandingServer::~LandingServer() {
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

absl::Status LandingServer::Admit(const Landing& landing, FrameSink* sink) {
  if (landing.window_bytes == 0 || landing.window_bytes > options_.max_window_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("KV landing window of ", landing.window_bytes,
                                                   " bytes: want 1 to ",
                                                   options_.max_window_bytes));
  }
  if (landing.connections == 0 || landing.connections > options_.max_connections) {
    return absl::InvalidArgumentError(absl::StrCat(
        "KV link of ", landing.connections, " connections: want 1 to ", options_.max_connections));
  }
  MutexLock lock(&mu_);
  if (links_.size() >= options_.max_links) {
    return absl::UnavailableError(absl::StrCat("all ", options_.max_links, " KV links are used"));
  }
  if (!links_.try_emplace(landing.link.link_id, Entry{{landing, sink}}).second) {
    return absl::AlreadyExistsError(absl::StrCat("KV link ", landing.link.link_id, " exists"));
  }
  return absl::OkStatus();
}

void LandingServer::Retire(const LinkName& name) {
  MutexLock lock(&mu_);
  while (true) {
    const auto found = links_.find(name.link_id);
    if (found == links_.end() || found->second.link.landing.link != name) return;
    Entry& entry = found->second;
    entry.retired = true;
    if (entry.connections.empty()) {
      links_.erase(found);
      return;
    }
    for (const Connection* connection : entry.connections) connection->socket.ShutDown();
    ended_.Wait(&mu_);
  }
}

void LandingServer::AcceptLoop() {
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

absl::Status LandingServer::Accept(Socket socket) {
  const size_t connections = Reap();
  if (!socket.open()) {
    // Out of descriptors, or the peer left: wait a moment for either to change.
    ended_.WaitFor(&mu_, absl::Milliseconds(10));
    return absl::OkStatus();
  }
  if (connections >= size_t{options_.max_links} * options_.max_connections + kStrangers) {
    return absl::OkStatus();
  }
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

size_t LandingServer::Reap() {
  for (auto it = connections_.begin(); it != connections_.end();) {
    if (it->finished) it->thread.join();
    it = it->finished ? connections_.erase(it) : std::next(it);
  }
  return connections_.size();
}

void LandingServer::Serve(Connection* connection) {
  std::optional<LinkName> claimed;
  const absl::Status why =
      converse_(connection->socket, [&](const wire::Hello& hello) -> absl::StatusOr<Link> {
        ASSIGN_OR_RETURN(const Link link, ClaimFor(hello, connection));
        claimed = hello.link;
        return link;
      });
  if (claimed.has_value()) Leave(*claimed, connection, why);
  LogDebug("kv connection ended", {{"why", why}});
  MutexLock lock(&mu_);
  connection->socket = Socket();  // closes it
  connection->finished = true;
  ended_.NotifyAll();
}

absl::StatusOr<LandingServer::Link> LandingServer::ClaimFor(const wire::Hello& hello,
                                                            Connection* connection) {
  MutexLock lock(&mu_);
  const auto found = links_.find(hello.link.link_id);
  const bool known = found != links_.end() && found->second.link.landing.link == hello.link;
  const Bytes16 token = known ? found->second.link.landing.token : Bytes16{};
  const bool equal = CRYPTO_memcmp(token.data(), hello.token.data(), token.size()) == 0;
  if (!known || !equal || stopping_) {
    return absl::PermissionDeniedError("hello with an unknown link, epoch or token");
  }
  Entry& entry = found->second;
  if (entry.claimed == entry.link.landing.connections || entry.ending || entry.retired) {
    return absl::PermissionDeniedError("hello of a link that takes no more connections");
  }
  entry.connections.push_back(connection);
  ++entry.claimed;
  return entry.link;
}

void LandingServer::Leave(const LinkName& name, Connection* connection, const absl::Status& why) {
  FrameSink* sink = nullptr;
  absl::Status first;
  {
    MutexLock lock(&mu_);
    Entry& entry = links_.at(name.link_id);
    if (!std::exchange(entry.ending, true)) {
      entry.why = absl::Status(why.code(), why.message());  // other threads' users are not counted
      for (const Connection* other : entry.connections) other->socket.ShutDown();
    }
    if (entry.connections.size() > 1) {
      std::erase(entry.connections, connection);
      return;
    }
    first = absl::Status(entry.why.code(), entry.why.message());
    if (!entry.retired) sink = entry.link.sink;
  }
  if (sink != nullptr) sink->OnLinkClosed(name, first);
  MutexLock lock(&mu_);
  links_.at(name.link_id).connections.clear();
  ended_.NotifyAll();
}

}  // namespace tandem
