#include <gtest/gtest.h>

#include <atomic>

#include "kvstore/transport/wire.h"
#include "tests/kvstore/handoff/handoff_test.h"

// Handoffs over a link of several connections: frames overtake each other, and the end of any
// connection is the end of the link.
namespace tandem {
namespace {

using ::testing::AnyOf;
using Code = absl::StatusCode;

class HandoffOverThree : public HandoffTest {
 protected:
  HandoffOverThree() { connections_ = 3; }
  ~HandoffOverThree() override { Stop(); }

  static Handoff Long(const HandoffKey& key) {  // 3 layers of 8 frames
    return {.key = key, .tokens = 64, .from = BlocksFrom(0, 16), .to = BlocksFrom(16, 16)};
  }
};

TEST_F(HandoffOverThree, KvArrivesWhole) {
  Start();
  for (uint32_t round = 1; round <= 30; ++round) {
    Handoff h = Long({"r", round});
    OpenAndCompute(h, round);
    ASSERT_OK_AND_ASSIGN(const HandoffSent sent, h.sent.Wait());
    ASSERT_OK_AND_ASSIGN(const HandoffReceived received, h.received.Wait());
    EXPECT_EQ(sent.bytes, 3u * 16 * 512);
    EXPECT_EQ(received.bytes, sent.bytes);
    EXPECT_EQ(sent.transport, "tcp");
    EXPECT_EQ(received.transport, "tcp");
    ExpectSameBytes(h.from, h.to);
  }
  EXPECT_EQ(sender_->counters().links_made, 1u);
  EXPECT_EQ(receiver_->counters().bad_frames, 0u);
}

// Complete travels beside the data: it waits for what any connection has yet to land.
TEST_F(HandoffOverThree, ACompleteThatOvertakesDataWaitsForIt) {
  std::atomic<int> completes{0};
  door_.SetFaults({.drop_to_receiver = [&](const ToReceiver& message) {
    completes += std::holds_alternative<CompleteMessage>(message);
    return false;
  }});
  sender_options_.push_timeout = absl::Seconds(20);
  receiver_options_.lease = absl::Seconds(20);
  for (int held = 0; held < 3; ++held) {
    SCOPED_TRACE(held);
    Start();
    Reroute({.stall_at = wire::kHelloBytes, .only = held});
    completes = 0;
    Handoff h = Long({"r", 1});
    OpenAndCompute(h, 1);
    ASSERT_TRUE(Eventually([&] { return completes >= 2; })) << "said, and said again";
    EXPECT_LT(receiver_->counters().bytes, 3u * 16 * 512);
    EXPECT_EQ(h.sent.calls() + h.received.calls(), 0);
    proxy_->Release();
    EXPECT_THAT(h.sent.Wait(), IsOk());
    EXPECT_THAT(h.received.Wait(), IsOk());
    ExpectSameBytes(h.from, h.to);
    Stop();
  }
}

TEST_F(HandoffOverThree, ACutOfAnyConnectionIsToldToBothSidesAndTheNextAttemptWorks) {
  Start();
  uint32_t attempt = 0;
  // Each connection carries a frame at least, as one that has nothing in flight is taken first.
  const uint64_t all = wire::kHelloBytes + wire::kFrameBytes + 1024;
  for (uint64_t at = wire::kHelloBytes + 1; at < all; at += 97) {
    SCOPED_TRACE(at);
    Reroute({.cut_at = at, .only = static_cast<int>(attempt / 2 % 3)});
    Handoff h = Long({"r", ++attempt});
    OpenAndCompute(h, attempt);
    EXPECT_THAT(h.sent.Wait(), AnyOf(StatusIs(Code::kUnavailable), StatusIs(Code::kAborted)));
    EXPECT_THAT(h.received.Wait(), AnyOf(StatusIs(Code::kUnavailable), StatusIs(Code::kAborted)));
    Reroute({});
    ++attempt;
    HandOver({"r", attempt}, attempt);
    EXPECT_EQ(h.sent.calls(), 1);
    EXPECT_EQ(h.received.calls(), 1);
    door_.Crash(kDecode);  // so that the next round links anew, through its own proxy
    door_.Register(kDecode, receiver_.get());
  }
}

TEST_F(HandoffOverThree, APeerWithFewerConnectionsDecides) {
  there_ = *MakeTcpTransport({.connections = 2});
  here_ = std::make_unique<ReroutedTransport>(*MakeTcpTransport({.connections = 3}));
  receiver_ = std::make_unique<Receiver>(&decode_, Transports{there_.get()}, receiver_options_);
  LinkOffer offer{.incarnation = NewIncarnation(),
                  .layout = prefill_.layout(),
                  .transports = {"tcp"},
                  .connections = 3};
  ASSERT_OK_AND_ASSIGN(LinkGrant grant, receiver_->AcceptLink(offer));
  EXPECT_EQ(grant.endpoint.connections, 2u);
  EXPECT_EQ(grant.endpoint.window_bytes, receiver_options_.window_bytes / 2);
  offer.connections = 0;  // of a peer that knows of one only
  ASSERT_OK_AND_ASSIGN(grant, receiver_->AcceptLink(offer));
  EXPECT_EQ(grant.endpoint.connections, 1u);
}

TEST_F(HandoffOverThree, EachConnectionsWindowHoldsASlice) {
  receiver_options_.window_bytes = 2 * prefill_.layout().slice_bytes() + 1;
  Start();
  Handoff h = Long({"r", 1});
  OpenAndCompute(h, 1);
  EXPECT_THAT(h.sent.Wait(), IsOk());
  EXPECT_THAT(h.received.Wait(), IsOk());
  ExpectSameBytes(h.from, h.to);
}

// Two threads push blocks of one handoff when it ends: the engine waits for both.
TEST_F(HandoffOverThree, TheEngineIsNotToldWhileABlockIsStillReadByAnyThread) {
  std::atomic<int> reading{0};
  std::atomic<bool> open{false};
  prefill_.on_slice = [&](uint32_t, BlockId) {
    ++reading;
    while (!open) absl::SleepFor(absl::Milliseconds(1));
  };
  Start();
  Handoff h = Long({"r", 1});
  Open(h);
  sender_->LayerReady(h.key, 0, h.tokens);
  ASSERT_TRUE(Eventually([&] { return reading == 3; })) << "one thread a connection";
  sender_->Abort(h.key);
  EXPECT_THAT(h.received.Wait(), StatusIs(Code::kAborted)) << "the receiver need not wait";
  EXPECT_EQ(h.sent.calls(), 0);
  open = true;
  EXPECT_THAT(h.sent.Wait(), StatusIs(Code::kCancelled));
}

}  // namespace
}  // namespace tandem
