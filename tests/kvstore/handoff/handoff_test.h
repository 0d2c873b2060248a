#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "kvstore/handoff/receiver.h"
#include "kvstore/handoff/sender.h"
#include "kvstore/transport/tcp.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/handoff_ends.h"
#include "tests/support/memory_blocks.h"
#include "tests/support/memory_control.h"
#include "tests/support/status_matchers.h"

namespace tandem {

// Waits up to 10 s for something that another thread brings about.
template <typename Condition>
bool Eventually(Condition condition) {
  for (int i = 0; i < 10'000; ++i) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return false;
}

// A prefill side and a decode side: real tcp on loopback, control in memory, short timers.
class HandoffTest : public testing::Test {
 protected:
  static constexpr uint32_t kBlocks = 64;
  static constexpr char kDecode[] = "decode";

  HandoffTest() {
    sender_options_ = {.incarnation = NewIncarnation(),
                       .name = "prefill",
                       .frame_bytes = 1024,  // two slices
                       .renewal = absl::Milliseconds(50),
                       .link_patience = absl::Seconds(5),
                       .backoff_min = absl::Milliseconds(1),
                       .backoff_max = absl::Milliseconds(10),
                       .push_stall = absl::Seconds(1),
                       .push_timeout = absl::Seconds(5),
                       .tick = absl::Milliseconds(2)};
    receiver_options_ = {.incarnation = NewIncarnation(),
                         .window_bytes = 64 << 10,
                         .lease = absl::Seconds(1),
                         .park = absl::Seconds(5),
                         .tick = absl::Milliseconds(2)};
  }
  ~HandoffTest() override { Stop(); }

  void Start() {
    there_ =
        *MakeTcpTransport({.connections = connections_, .stall_timeout = absl::Milliseconds(500)});
    here_ = std::make_unique<ReroutedTransport>(*MakeTcpTransport({.connections = connections_}));
    receiver_ = std::make_unique<Receiver>(&decode_, Transports{there_.get()}, receiver_options_);
    door_.Register(kDecode, receiver_.get());
    sender_ = std::make_unique<Sender>(&prefill_, Transports{here_.get()}, &door_, sender_options_);
  }
  void Stop() {
    sender_.reset();
    if (receiver_ != nullptr) door_.Crash(kDecode);
    receiver_.reset();
    here_.reset();
    there_.reset();
  }
  // All connections made from now on lead through a proxy with these faults.
  FaultProxy* Reroute(const ProxyFaults& faults) {
    proxy_ = std::make_unique<FaultProxy>(there_->address());
    proxy_->SetFaults(faults);
    here_->set_detour(proxy_->address());
    return proxy_.get();
  }

  static absl::Time In(absl::Duration time) { return RealClock()->Now() + time; }
  void Begin(const HandoffKey& key, uint32_t tokens, std::vector<BlockId> blocks,
             HandoffEnd<HandoffSent>& end, absl::Duration deadline = absl::Seconds(10)) {
    sender_->Begin(key, kDecode, tokens, std::move(blocks), In(deadline), end.Callback());
  }
  void Expect(const HandoffKey& key, uint32_t tokens, std::vector<BlockId> blocks,
              HandoffEnd<HandoffReceived>& end, uint32_t held = 0,
              absl::Duration deadline = absl::Seconds(10)) {
    receiver_->Expect(key, tokens, std::move(blocks), held, In(deadline), end.Callback());
  }
  // Computes every layer at once, and the first token.
  void ComputeAll(const HandoffKey& key, uint32_t tokens, const std::vector<BlockId>& blocks,
                  uint32_t salt = 1) {
    for (uint32_t layer = 0; layer < prefill_.layout().layers; ++layer) {
      for (const BlockId block : blocks) prefill_.Fill(layer, block, salt);
      sender_->LayerReady(key, layer, tokens);
    }
    sender_->Finish(key, {{0, 42, false}});
  }
  void ExpectSameBytes(const std::vector<BlockId>& from, const std::vector<BlockId>& to,
                       uint32_t first = 0) {
    for (uint32_t layer = 0; layer < prefill_.layout().layers; ++layer) {
      for (uint32_t i = first; i < from.size(); ++i) {
        EXPECT_EQ(prefill_.Slice(layer, from[i]), decode_.Slice(layer, to[i]))
            << "layer " << layer << " block " << i;
      }
    }
  }
  // One prompt and where it goes.
  struct Handoff {
    HandoffKey key{"r", 1};
    uint32_t tokens = 8;
    std::vector<BlockId> from = BlocksFrom(0, 2), to = BlocksFrom(10, 2);
    HandoffEnd<HandoffSent> sent{};
    HandoffEnd<HandoffReceived> received{};
  };
  // Expected at the one side, begun at the other.
  void Open(Handoff& h) {
    Expect(h.key, h.tokens, h.to, h.received);
    Begin(h.key, h.tokens, h.from, h.sent);
  }
  void OpenAndCompute(Handoff& h, uint32_t salt = 1) {
    Open(h);
    ComputeAll(h.key, h.tokens, h.from, salt);
  }
  // A handoff from start to end, which must succeed.
  void HandOver(const HandoffKey& key, uint32_t salt) {
    Handoff h{.key = key, .from = BlocksFrom(50, 2), .to = BlocksFrom(40, 2)};
    OpenAndCompute(h, salt);
    ASSERT_THAT(h.sent.Wait(), IsOk());
    ASSERT_THAT(h.received.Wait(), IsOk());
    ExpectSameBytes(h.from, h.to);
  }

  uint32_t connections_ = 1;  // of the link
  SenderOptions sender_options_;
  ReceiverOptions receiver_options_;
  MemoryBlocks prefill_{SmallLayout(), kBlocks}, decode_{SmallLayout(), kBlocks};
  MemoryControlDoor door_;
  std::unique_ptr<Transport> there_;
  std::unique_ptr<ReroutedTransport> here_;
  std::unique_ptr<Receiver> receiver_;
  std::unique_ptr<Sender> sender_;
  std::unique_ptr<FaultProxy> proxy_;
};

}  // namespace tandem
