#pragma once
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <list>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/transport.h"

namespace tandem {

// What goes wrong on the way from the client to the server, counted in bytes of each connection.
struct ProxyFaults {
  static constexpr uint64_t kNever = ~uint64_t{0};
  uint64_t flip_at = kNever;   // one bit of this byte is turned over
  uint64_t cut_at = kNever;    // both connections are closed before this byte
  uint64_t stall_at = kNever;  // nothing is forwarded from this byte on
  size_t chunk = 64 << 10;     // forwarded at once
  int only = -1;  // the connection that has these faults, counted from SetFaults; -1: all
};

// A TCP proxy on loopback between a test's two sides.
//   threads SetFaults by the test; it holds for connections made later
class FaultProxy {
 public:
  explicit FaultProxy(const std::string& target)
      : target_(*SocketAddress::Parse(target)),
        listener_(*Socket::Listen(*SocketAddress::Parse("127.0.0.1:0"))),
        address_(listener_.LocalAddress()->ToString()),
        accepter_([this] { AcceptLoop(); }) {}

  ~FaultProxy() {
    stopping_ = true;
    accepter_.join();
    MutexLock lock(&mu_);
    for (Pair& pair : pairs_) {
      pair.client.ShutDown();
      pair.server.ShutDown();
    }
    pairs_.clear();  // joins
  }

  const std::string& address() const { return address_; }
  void SetFaults(const ProxyFaults& faults) {
    MutexLock lock(&mu_);
    faults_ = faults;
    made_ = 0;
  }
  // What is stalled goes on.
  void Release() { released_ = true; }
  uint64_t forwarded() const { return forwarded_; }

 private:
  struct Pair {
    Socket client, server;
    std::jthread there, back;  // end before the sockets close
  };

  void AcceptLoop() {
    while (!stopping_) {
      pollfd one{listener_.fd(), POLLIN, 0};
      if (poll(&one, 1, 10) <= 0) continue;
      Socket client(accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      auto server = Socket::Connect(target_, absl::InfiniteFuture());
      if (!client.open() || !server.ok()) continue;
      MutexLock lock(&mu_);
      Pair& pair = pairs_.emplace_back();
      pair.client = std::move(client);
      pair.server = *std::move(server);
      const bool faulty = faults_.only < 0 || faults_.only == made_;
      ++made_;
      pair.there = std::jthread(
          [this, &pair, faults = faulty ? faults_ : ProxyFaults{}] { Pump(pair, true, faults); });
      pair.back = std::jthread([this, &pair] { Pump(pair, false, {}); });
    }
  }

  void Pump(Pair& pair, bool there, const ProxyFaults& faults) {
    const Socket& from = there ? pair.client : pair.server;
    const Socket& to = there ? pair.server : pair.client;
    const PushLimits limits{.stall = absl::InfiniteDuration(), .cancelled = &stopping_};
    std::vector<uint8_t> buffer(faults.chunk);
    uint64_t at = 0;
    while (at < faults.cut_at) {
      const bool stalls = at >= faults.stall_at;
      if (stalls && !released_) {  // until an end closes, or the test is over
        const PushLimits moment{.stall = absl::Milliseconds(5), .cancelled = &stopping_};
        if (absl::IsDeadlineExceeded(from.Wait(0, moment))) continue;
        break;
      }
      const uint64_t next_event = stalls ? faults.cut_at : std::min(faults.cut_at, faults.stall_at);
      const size_t room = std::min<uint64_t>(buffer.size(), next_event - at);
      const auto got = from.ReadSome(absl::MakeSpan(buffer).first(room));
      if (!got.ok()) break;
      if (*got == 0) {
        if (!from.Wait(POLLIN, limits).ok()) break;
        continue;
      }
      if (faults.flip_at >= at && faults.flip_at < at + *got) buffer[faults.flip_at - at] ^= 0x10;
      if (!WriteAll(to, absl::MakeConstSpan(buffer).first(*got), limits).ok()) break;
      at += *got;
      if (there) forwarded_ += *got;
    }
    pair.client.ShutDown();
    pair.server.ShutDown();
  }

  const SocketAddress target_;
  const Socket listener_;
  const std::string address_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> released_{false};
  std::atomic<uint64_t> forwarded_{0};
  Mutex mu_;
  ProxyFaults faults_ ABSL_GUARDED_BY(mu_);
  int made_ ABSL_GUARDED_BY(mu_) = 0;  // connections since SetFaults
  std::list<Pair> pairs_ ABSL_GUARDED_BY(mu_);
  std::jthread accepter_;
};

}  // namespace tandem
