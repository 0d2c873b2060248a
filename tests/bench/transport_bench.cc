#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
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

// A thread reads into where the bytes belong, and with `digest` both ends take it.
void ThroughSocket(const Pair& pair, Memory* memory, bool digest) {
  std::jthread reader([&] {
    for (size_t at = 0; at < kSpan; at += kFrame) {
      OrDie(pair.far.ReadAll(memory->Target(at), {}));
      if (digest) (void)Digest(memory->Target(at));
    }
  });
  for (size_t at = 0; at < kSpan; at += kFrame) {
    if (digest) (void)Digest(memory->Source(at));
    OrDie(pair.near.WriteAll(memory->Source(at), {}));
  }
}

// Does what a receiver of KV does: copies out of the window, then checks the copy.
class CopyingSink final : public FrameSink {
 public:
  explicit CopyingSink(Memory* memory) : memory_(memory) {}

  void OnFrame(const FrameHeader& header, absl::Span<const uint8_t> landed) override {
    const absl::Span<uint8_t> target = memory_->Target(at_);
    at_ = (at_ + kFrame) % kSpan;
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
  size_t at_ = 0;
  Mutex mu_;
  CondVar changed_;
  uint64_t frames_ ABSL_GUARDED_BY(mu_) = 0;
};

// A link between two transports of one kind.
class Link {
 public:
  Link(std::unique_ptr<Transport> here, std::unique_ptr<Transport> there, Memory* memory)
      : memory_(memory), sink_(memory), here_(std::move(here)), there_(std::move(there)) {
    constexpr uint64_t kMost = 32 << 20;  // as kv.window_bytes
    const uint64_t window = std::min(kMost, here_->capabilities().best_window_bytes);
    OrDie(there_->Admit({name_, {}, window}, &sink_));
    auto push = here_->Connect({name_, there_->address(), {}, window}, absl::InfiniteFuture());
    OrDie(push.status());
    push_ = *std::move(push);
  }
  ~Link() { there_->Retire(name_); }

  void Move() {
    for (size_t at = 0; at < kSpan; at += kFrame) {
      FrameHeader header;
      header.tag.link = name_;
      header.payload_bytes = kFrame;
      header.digest = FrameDigest(header, {memory_->Source(at)});
      OrDie(push_->Push(header, {memory_->Source(at)}, {}));
      ++pushed_;
    }
    sink_.WaitFor(pushed_);
  }

 private:
  const LinkName name_{1, 1};
  Memory* const memory_;
  CopyingSink sink_;
  const std::unique_ptr<Transport> here_, there_;
  std::unique_ptr<PushConnection> push_;
  uint64_t pushed_ = 0;
};

struct Way {
  const char* name;
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
  const Pair tcp = TcpPair(), local = UnixPair();
  Link tcp_link(*MakeTcpTransport({}), *MakeTcpTransport({}), &memory);
  Link tls_link(*MakeTcpTransport({.listen_tls = tls, .connect_tls = tls}),
                *MakeTcpTransport({.listen_tls = tls, .connect_tls = tls}), &memory);
  Link shm_link(*MakeShmTransport({.directory = folder.path()}),
                *MakeShmTransport({.directory = folder.path()}), &memory);
  std::vector<Way> ways;
  const auto add = [&](const char* name, std::function<void()> work) {
    if (ways.size() < 2 || absl::StrContains(name, only)) {
      ways.push_back({name, Rates(kSpan, std::move(work))});
    }
  };
  add("memcpy, one thread", [&] { Copy(&memory, false); });
  add("memcpy with digest, one thread", [&] { Copy(&memory, true); });
  add("transport shm", [&] { shm_link.Move(); });
  add("unix socket", [&] { ThroughSocket(local, &memory, false); });
  add("unix socket with digest", [&] { ThroughSocket(local, &memory, true); });
  add("tcp socket", [&] { ThroughSocket(tcp, &memory, false); });
  add("tcp socket with digest", [&] { ThroughSocket(tcp, &memory, true); });
  add("transport tcp", [&] { tcp_link.Move(); });
  add("transport tcp with TLS", [&] { tls_link.Move(); });
  for (Way& way : ways) way.rates.WarmUp();
  for (int round = 0; round < kRounds; ++round) {
    for (Way& way : ways) way.rates.Round();
  }
  const double copy = ways[1].rates.figures().median;
  for (const Way& way : ways) {
    const Figures rate = way.rates.figures();
    std::printf("%-32s %6.2f GB/s (%.2f..%.2f); %.2f of memcpy with digest; %.3f CPU s/GB\n",
                way.name, rate.median, rate.low, rate.high, rate.median / copy, rate.cpu);
  }
  return 0;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) { return tandem::Main(argc > 1 ? argv[1] : ""); }
