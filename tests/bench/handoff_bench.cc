#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "kvstore/handoff/receiver.h"
#include "kvstore/handoff/sender.h"
#include "kvstore/transport/shm.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/tcp.h"
#include "kvstore/transport/wire.h"
#include "tests/bench/rates.h"
#include "tests/support/handoff_ends.h"
#include "tests/support/memory_blocks.h"
#include "tests/support/memory_control.h"
#include "tests/support/scratch_folder.h"

// How fast KV moves between two sides of one process, next to what the machine can do: memcpy from
// one thread, the digest, and a raw loopback socket with 256 KiB writes.
namespace tandem {
namespace {

constexpr size_t kSpan = 512 << 20;  // moved in one round of the machine's figures

void Print(const char* what, const Figures& rate, const Figures& of) {
  std::printf("%-58s %6.2f GB/s (%.2f..%.2f), %3.0f %% of raw; %.3f CPU s/GB\n", what, rate.median,
              rate.low, rate.high, 100 * rate.median / of.median, rate.cpu);
}

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "tandem-handoff-bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

Figures RawSocket() {
  const Socket listener = *Socket::Listen(*SocketAddress::Parse("127.0.0.1:0"));
  const Socket client = *Socket::Connect(*listener.LocalAddress(), absl::InfiniteFuture());
  (void)listener.Wait(POLLIN, {});
  const Socket server(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  std::vector<uint8_t> from(kSpan, 1), to(256 << 10);
  return Measure(kSpan, [&] {
    std::jthread reader([&] {
      for (size_t left = kSpan; left > 0;) {
        const auto got = server.ReadSome(absl::MakeSpan(to));
        if (!got.ok()) Die(got.status());
        left -= *got;
        if (*got == 0) (void)server.Wait(POLLIN, {});
      }
    });
    for (size_t at = 0; at < kSpan; at += 256 << 10) {
      const absl::Status sent = WriteAll(client, {from.data() + at, 256 << 10}, {});
      if (!sent.ok()) Die(sent);
    }
  });
}

// One prompt of 2,048 tokens of SmolLM2-135M's geometry, all layers ready at once.
Figures WholeHandoff(Transport* here, Transport* there, uint64_t frame_bytes) {
  KvLayout layout = SmallLayout();
  layout.block_tokens = 16;
  layout.layers = 30;
  layout.kv_heads = 3;
  layout.head_dim = 64;
  constexpr uint32_t kTokens = 2048, kBlocks = kTokens / 16;
  MemoryBlocks from(layout, kBlocks), to(layout, kBlocks);
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    for (uint32_t block = 0; block < kBlocks; ++block) from.Fill(layer, BlockId{block}, 1);
  }
  Receiver receiver(&to, {there}, {.incarnation = NewIncarnation()});
  MemoryControlDoor door;
  door.Register("decode", &receiver);
  Figures figures;
  {
    Sender sender(&from, {here}, &door,
                  {.incarnation = NewIncarnation(), .frame_bytes = frame_bytes});
    uint32_t attempt = 0;
    figures = Measure(double(layout.slice_bytes()) * layout.layers * kBlocks, [&] {
      const HandoffKey key{"bench", ++attempt};
      HandoffEnd<HandoffSent> sent;
      HandoffEnd<HandoffReceived> received;
      const absl::Time deadline = RealClock()->Now() + absl::Seconds(30);
      receiver.Expect(key, kTokens, BlocksFrom(0, kBlocks), 0, deadline, received.Callback());
      sender.Begin(key, "decode", kTokens, BlocksFrom(0, kBlocks), deadline, sent.Callback());
      for (uint32_t layer = 0; layer < layout.layers; ++layer) {
        sender.LayerReady(key, layer, kTokens);
      }
      sender.Finish(key, {{}});
      if (!sent.Wait().ok()) Die(sent.Wait().status());
      if (!received.Wait().ok()) Die(received.Wait().status());
    });
  }
  door.Crash("decode");
  return figures;
}

int Main() {
  SetLogOptions({.level = LogLevel::kWarning});
  const Figures raw = RawSocket();
  Print("raw loopback socket, 256 KiB writes", raw, raw);
  std::vector<uint8_t> from(kSpan, 1), to(kSpan, 2);
  Print("memcpy, one thread, 512 MiB",
        Measure(kSpan, [&] { std::memcpy(to.data(), from.data(), kSpan); }), raw);
  Print("XXH3-128, one thread, 256 KiB pieces",
        Measure(kSpan,
                [&] {
                  for (size_t at = 0; at < kSpan; at += 256 << 10) {
                    (void)FrameDigest({}, {absl::MakeConstSpan(from).subspan(at, 256 << 10)});
                  }
                }),
        raw);
  const ScratchFolder folder;
  const auto tcp_here = *MakeTcpTransport({}), tcp_there = *MakeTcpTransport({});
  const auto shm_here = *MakeShmTransport({.directory = folder.path()}),
             shm_there = *MakeShmTransport({.directory = folder.path()});
  for (const auto& [here, there] :
       {std::pair(tcp_here.get(), tcp_there.get()), std::pair(shm_here.get(), shm_there.get())}) {
    for (const uint64_t frame : {64u << 10, 128u << 10, 256u << 10, 512u << 10, 1024u << 10}) {
      const std::string what =
          absl::StrCat("handoff by ", here->capabilities().name,
                       ", 2,048 tokens (94 MB), frames of ", frame >> 10, " KiB");
      Print(what.c_str(), WholeHandoff(here, there, frame), raw);
    }
  }
  return 0;
}

}  // namespace
}  // namespace tandem

int main() { return tandem::Main(); }
