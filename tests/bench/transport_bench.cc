#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutex.h"
#include "kvstore/transport/shm.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/tcp.h"
#include "kvstore/transport/wire.h"
#include "tests/bench/rates.h"
#include "tests/support/kv_tls.h"
#include "tests/support/scratch_folder.h"

// How fast the KV transports move frames of 256 KiB between two threads, next to what the machine
// can do with the same bytes: memcpy and bare sockets, each also with the digest that KV has. Ways
// take turns round by round, so that a busy machine slows all of them alike.
namespace tandem {
namespace {

constexpr size_t kFrame = 256 << 10;
constexpr size_t kSpan = 256 << 20;  // moved in one round

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "tandem-transport-bench: %s\n", status.ToString().c_str());
  std::exit(1);
}
void OrDie(const absl::Status& status) {
  if (!status.ok()) Die(status);
}

// What is moved, and where to.
struct Memory {
  std::vector<uint8_t> from = std::vector<uint8_t>(kSpan, 1), to = std::vector<uint8_t>(kSpan, 2);
  absl::Span<const uint8_t> Source(size_t at) const { return {from.data() + at, kFrame}; }
  absl::Span<uint8_t> Target(size_t at) { return {to.data() + at, kFrame}; }
};

Bytes16 Digest(absl::Span<const uint8_t> bytes) { return FrameDigest({}, {bytes}); }

void Copy(Memory* memory, bool digest) {
  for (size_t at = 0; at < kSpan; at += kFrame) {
    std::memcpy(memory->Target(at).data(), memory->Source(at).data(), kFrame);
    if (digest) (void)Digest(memory->Target(at));
  }
}

// Two ends of a connected socket.
struct Pair {
  Socket near, far;
};

Pair TcpPair() {
  const Socket listener = *Socket::Listen(*SocketAddress::Parse("127.0.0.1:0"));
  Socket near = *Socket::Connect(*listener.LocalAddress(), absl::InfiniteFuture());
  OrDie(listener.Wait(POLLIN, {}));
  return {std::move(near),
          Socket(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC))};
}

Pair UnixPair() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    Die(ErrnoStatus(errno, "socketpair"));
  }
  return {Socket(ends[0]), Socket(ends[1])};
}

// Threads read into where the bytes belong, and with `digest` both ends take it: two threads a
// connection, of which each moves as many frames.
void ThroughSockets(absl::Span<const Pair> pairs, Memory* memory, bool digest) {
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < pairs.size(); ++i) {
    threads.emplace_back([=, &pair = pairs[i], count = pairs.size()] {
      for (size_t at = i * kFrame; at < kSpan; at += count * kFrame) {
        OrDie(ReadAll(pair.far, memory->Target(at), {}));
        if (digest) (void)Digest(memory->Target(at));
      }
    });
    threads.emplace_back([=, &pair = pairs[i], count = pairs.size()] {
      for (size_t at = i * kFrame; at < kSpan; at += count * kFrame) {
        if (digest) (void)Digest(memory->Source(at));
        OrDie(WriteAll(pair.near, memory->Source(at), {}));
      }
    });
  }
}

// Does what a receiver of KV does: copies out of the window, then checks the copy.
class CopyingSink final : public FrameSink {
 public:
  explicit CopyingSink(Memory* memory) : memory_(memory) {}

  void OnFrame(const FrameHeader& header, absl::Span<const uint8_t> landed) override {
    const absl::Span<uint8_t> target = memory_->Target(header.place.first_block * kFrame);
    std::memcpy(target.data(), landed.data(), landed.size());
    if (FrameDigest(header, {target}) != header.digest) Die(absl::DataLossError("a wrong digest"));
    MutexLock lock(&mu_);
    ++frames_;
    changed_.NotifyAll();
  }
  void OnLinkClosed(const LinkName&, const absl::Status& why) override { Die(why); }

  void WaitFor(uint64_t frames) {
    MutexLock lock(&mu_);
    while (frames_ < frames) changed_.Wait(&mu_);
  }

 private:
  Memory* const memory_;
  Mutex mu_;
  CondVar changed_;
  uint64_t frames_ ABSL_GUARDED_BY(mu_) = 0;
};

// A link between two transports of one kind, with all the connections that they have for one.
class Link {
 public:
  Link(std::unique_ptr<Transport> here, std::unique_ptr<Transport> there, Memory* memory)
      : memory_(memory), sink_(memory), here_(std::move(here)), there_(std::move(there)) {
    constexpr uint64_t kMost = 32 << 20;  // as kv.window_bytes
    const uint64_t window = std::min(kMost / connections_, here_->capabilities().best_window_bytes);
    OrDie(there_->Admit({name_, {}, window, connections_}, &sink_));
    auto push = here_->Connect({name_, there_->address(), {}, window, connections_},
                               absl::InfiniteFuture());
    OrDie(push.status());
    push_ = *std::move(push);
  }
  ~Link() { there_->Retire(name_); }

  // Pushes with as many threads as there are connections.
  void Move() {
    std::atomic<size_t> next{0};
    const auto push = [&] {
      for (size_t at = next++ * kFrame; at < kSpan; at = next++ * kFrame) {
        FrameHeader header;
        header.tag.link = name_;
        header.place.first_block = static_cast<uint32_t>(at / kFrame);
        header.payload_bytes = kFrame;
        header.digest = FrameDigest(header, {memory_->Source(at)});
        OrDie(push_->Push(header, {memory_->Source(at)}, {}));
      }
    };
    std::vector<std::jthread> pushers;
    while (pushers.size() + 1 < connections_) pushers.emplace_back(push);
    push();
    pushers.clear();
    pushed_ += kSpan / kFrame;
    sink_.WaitFor(pushed_);
  }

 private:
  const LinkName name_{1, 1};
  Memory* const memory_;
  CopyingSink sink_;
  const std::unique_ptr<Transport> here_, there_;
  const uint32_t connections_ = here_->capabilities().connections;
  std::unique_ptr<PushConnection> push_;
  uint64_t pushed_ = 0;
};

// tcp with as many connections: what it is, what a bare socket each would be, and with TLS.
struct TcpWays {
  TcpWays(uint32_t count, const std::shared_ptr<const Certificates>& tls, Memory* memory)
      : connections(count),
        plain(Make(nullptr), Make(nullptr), memory),
        encrypted(Make(tls), Make(tls), memory) {
    while (sockets.size() < connections) sockets.push_back(TcpPair());
  }
  std::unique_ptr<Transport> Make(const std::shared_ptr<const Certificates>& tls) const {
    return *MakeTcpTransport({.listen_tls = tls, .connect_tls = tls, .connections = connections});
  }
  const uint32_t connections;
  std::vector<Pair> sockets;
  Link plain, encrypted;
};

struct Way {
  std::string name;
  Rates rates;
};

// Beside memcpy, the ways whose name contains `only`: alone they are not slowed by what others
// leave behind in caches and kernel threads.
int Main(absl::string_view only) {
  SetLogOptions({.level = LogLevel::kWarning});
  Memory memory;
  const ScratchFolder folder;
  const TestCertificate own = MakeTestCertificate();
  const auto tls = WatchFiles(folder.path(), own, own.cert);
  const Pair local = UnixPair();
  std::vector<std::unique_ptr<TcpWays>> tcps;
  for (const uint32_t connections : {1, 2, 4}) {
    tcps.push_back(std::make_unique<TcpWays>(connections, tls, &memory));
  }
  Link shm_link(*MakeShmTransport({.directory = folder.path()}),
                *MakeShmTransport({.directory = folder.path()}), &memory);
  std::vector<Way> ways;
  const auto add = [&](const std::string& name, std::function<void()> work) {
    if (ways.size() < 2 || absl::StrContains(name, only)) {
      ways.push_back({name, Rates(kSpan, std::move(work))});
    }
  };
  add("memcpy, one thread", [&] { Copy(&memory, false); });
  add("memcpy with digest, one thread", [&] { Copy(&memory, true); });
  add("transport shm", [&] { shm_link.Move(); });
  add("unix socket", [&] { ThroughSockets({&local, 1}, &memory, false); });
  add("unix socket with digest", [&] { ThroughSockets({&local, 1}, &memory, true); });
  for (const auto& tcp : tcps) {
    const std::string by = absl::StrCat(" x ", tcp->connections);
    add("tcp socket" + by, [&] { ThroughSockets(tcp->sockets, &memory, false); });
    add("tcp socket with digest" + by, [&] { ThroughSockets(tcp->sockets, &memory, true); });
    add("transport tcp" + by, [&] { tcp->plain.Move(); });
    add("transport tcp with TLS" + by, [&] { tcp->encrypted.Move(); });
  }
  for (Way& way : ways) way.rates.WarmUp();
  for (int round = 0; round < kRounds; ++round) {
    for (Way& way : ways) way.rates.Round();
  }
  const double copy = ways[1].rates.figures().median;
  for (const Way& way : ways) {
    const Figures rate = way.rates.figures();
    std::printf("%-32s %6.2f GB/s (%.2f..%.2f); %.2f of memcpy with digest; %.3f CPU s/GB\n",
                way.name.c_str(), rate.median, rate.low, rate.high, rate.median / copy, rate.cpu);
  }
  return 0;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main(argc > 1 ? argv[1] : ""); }
