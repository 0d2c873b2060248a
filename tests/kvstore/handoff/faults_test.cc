#include <gtest/gtest.h>

#include <atomic>
#include <list>
#include <random>
#include <set>

#include "kvstore/transport/wire.h"
#include "tests/kvstore/handoff/handoff_test.h"
#include "tests/support/no_threads.h"

// The promises of kvstore/handoff/handoff.h when something breaks: both sides are told exactly
// once, with a status that says what it was, and the next attempt works.
namespace tandem {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using Code = absl::StatusCode;

constexpr uint64_t kToFirstFrame = wire::kHelloBytes;
constexpr uint64_t kToFirstPayload = kToFirstFrame + wire::kFrameBytes;

TEST_F(HandoffTest, AFlippedPayloadBitEndsOneHandoffAndNotTheLink) {
  Start();
  Reroute({.flip_at = kToFirstPayload + 700});
  Handoff h;
  OpenAndCompute(h);
  EXPECT_THAT(h.received.Wait(), StatusIs(Code::kDataLoss, HasSubstr("digest")));
  EXPECT_THAT(h.sent.Wait(), StatusIs(Code::kDataLoss, HasSubstr("digest")));
  EXPECT_EQ(receiver_->counters().bad_frames, 1u);
  HandOver({"r", 2}, 2);
  EXPECT_EQ(sender_->counters().links_made, 1u);
}

TEST_F(HandoffTest, AFlippedHeaderBitEndsTheLinkAndTheNextOneWorks) {
  Start();
  Reroute({.flip_at = kToFirstFrame + 60});
  Handoff h;
  OpenAndCompute(h);
  EXPECT_THAT(h.received.Wait(), StatusIs(Code::kUnavailable, HasSubstr("checksum")));
  EXPECT_THAT(h.sent.Wait(), AnyOf(StatusIs(Code::kUnavailable), StatusIs(Code::kAborted)));
  proxy_->SetFaults({});
  HandOver({"r", 2}, 2);
  EXPECT_EQ(sender_->counters().links_made, 2u);
}

// The data connection dies before any one byte of the first handoff on it.
TEST_F(HandoffTest, ACutAtAnyByteIsToldToBothSidesAndTheNextAttemptWorks) {
  Start();
  const uint64_t all = kToFirstFrame + 3 * (wire::kFrameBytes + 1024);
  uint32_t attempt = 0;
  for (uint64_t at = kToFirstFrame + 1; at < all; at += 211) {
    SCOPED_TRACE(at);
    Reroute({.cut_at = at});
    Handoff h{.key = {"r", ++attempt}};
    OpenAndCompute(h);
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

TEST_F(HandoffTest, AStalledNetworkCostsADeadline) {
  receiver_options_.lease = absl::Seconds(10);
  Start();
  Reroute({.stall_at = kToFirstPayload + 100});
  Handoff h;
  OpenAndCompute(h);
  EXPECT_THAT(h.received.Wait(), StatusIs(Code::kUnavailable, HasSubstr("no progress")));
  EXPECT_THAT(h.sent.Wait(), testing::Not(IsOk()));
}

// What the network holds back fits into the kernels' buffers: every push has succeeded, and nothing
// is amiss inside a frame, but the peer never sees the last one.
TEST_F(HandoffTest, ANetworkThatStallsBehindTheLastPushEndsTheLinkAndTheNextOneWorks) {
  sender_options_.push_timeout = absl::Milliseconds(300);
  receiver_options_.lease = absl::Seconds(60);
  Start();
  Reroute({.stall_at = kToFirstFrame + wire::kFrameBytes + 1024});
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  Expect({"r", 1}, 8, BlocksFrom(10, 2), received, 0, absl::Minutes(1));
  Begin({"r", 1}, 8, BlocksFrom(0, 2), sent, absl::Minutes(1));
  ComputeAll({"r", 1}, 8, BlocksFrom(0, 2));
  EXPECT_THAT(sent.Wait(), StatusIs(Code::kUnavailable, HasSubstr("not confirmed within 300ms")));
  EXPECT_THAT(received.Wait(), StatusIs(Code::kUnavailable));
  proxy_->SetFaults({});
  HandOver({"r", 2}, 2);
  EXPECT_EQ(sender_->counters().links_made, 2u);
}

TEST_F(HandoffTest, APeerForWhichThereIsNoThreadIsUnavailableAndTheNextHandoffWorks) {
  Start();
  {
    const NoThreads none;
    HandoffEnd<HandoffSent> sent;
    Begin({"r", 1}, 8, BlocksFrom(0, 2), sent);
    EXPECT_THAT(sent.Wait(), StatusIs(Code::kUnavailable,
                                      HasSubstr("no thread can be started for the KV link to")));
  }
  HandOver({"r", 2}, 2);
}

TEST_F(HandoffTest, AReceiverThatDiesFreesTheSender) {
  Start();
  Handoff h;
  Open(h);
  sender_->LayerReady(h.key, 0, 8);
  ASSERT_TRUE(Eventually([&] { return receiver_->counters().bytes > 0; }));
  door_.Crash(kDecode);
  EXPECT_THAT(h.sent.Wait(), AnyOf(StatusIs(Code::kUnavailable), StatusIs(Code::kAborted)));
  EXPECT_THAT(h.received.Wait(), testing::Not(IsOk()));
}

// The sender's process freezes: it neither pushes nor renews.
TEST_F(HandoffTest, ALeaseThatIsNotRenewedEnds) {
  door_.SetFaults({.drop_to_receiver = [](const ToReceiver& message) {
    return !std::holds_alternative<ReserveMessage>(message);
  }});
  Start();
  Handoff h;
  Open(h);
  EXPECT_THAT(h.received.Wait(), StatusIs(Code::kDeadlineExceeded, HasSubstr("lease")));
  EXPECT_THAT(h.sent.Wait(), StatusIs(Code::kDeadlineExceeded, HasSubstr("lease")));
  EXPECT_EQ(receiver_->counters().leases_expired, 1u);
}

TEST_F(HandoffTest, ALeaseThatIsRenewedLastsAsLongAsThePrefill) {
  Start();
  Handoff h;
  Open(h);
  const absl::Time start = RealClock()->Now();
  while (RealClock()->Now() - start < 3 * receiver_options_.lease) {
    ASSERT_EQ(h.received.calls(), 0);
    absl::SleepFor(absl::Milliseconds(20));
  }
  ComputeAll(h.key, 8, h.from);
  EXPECT_THAT(h.sent.Wait(), IsOk());
  EXPECT_THAT(h.received.Wait(), IsOk());
}

// A control stream that loses, repeats and swaps messages, many handoffs at a time, some aborted by
// either side. Nothing hangs, nothing is told twice, blocks are never touched after `done`.
class Chaos : public HandoffTest, public testing::WithParamInterface<int> {
 protected:
  struct ChaosHandoff : Handoff {
    bool disturbed = false;
  };
};

TEST_P(Chaos, EveryHandoffEndsOnceAndAGoodOneIsWhole) {
  const uint32_t seed = GetParam() + testing::UnitTest::GetInstance()->random_seed() * 8;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  receiver_options_.lease = absl::Seconds(10);
  receiver_options_.park = absl::Seconds(10);
  connections_ = GetParam() % 2 == 0 ? 1 : 3;
  door_.SetFaults({.seed = seed, .lose = 0.15, .repeat = 0.15, .swap = 0.15});
  Start();
  for (int round = 0; round < 12; ++round) {
    std::list<ChaosHandoff> handoffs(8);
    uint32_t block = 0;
    for (ChaosHandoff& h : handoffs) {
      const uint32_t count = 1 + random() % 7, tokens = count * 4 - random() % 4;
      h.key = {absl::StrCat("r", block, "-", round), 1};
      h.from = h.to = BlocksFrom(block, count);
      block += count;
      const bool expect_first = random() % 2 == 0;
      if (expect_first) Expect(h.key, tokens, h.to, h.received);
      Begin(h.key, tokens, h.from, h.sent);
      if (!expect_first) Expect(h.key, tokens, h.to, h.received);
      h.disturbed = random() % 4 == 0;
      if (!h.disturbed) ComputeAll(h.key, tokens, h.from, seed + round);
      if (h.disturbed && random() % 2 == 0) sender_->Abort(h.key);
      if (h.disturbed) receiver_->Cancel(h.key, "no blocks");
    }
    for (ChaosHandoff& h : handoffs) {
      SCOPED_TRACE(h.key.request_id);
      const auto sent = h.sent.Wait();
      const auto received = h.received.Wait();
      EXPECT_EQ(sent.ok(), !h.disturbed) << sent.status();
      EXPECT_EQ(received.ok(), !h.disturbed) << received.status();
      if (received.ok()) ExpectSameBytes(h.from, h.to);
    }
    for (ChaosHandoff& h : handoffs) {
      EXPECT_EQ(h.sent.calls(), 1);
      EXPECT_EQ(h.received.calls(), 1);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, Chaos, testing::Range(0, 4));

// The data connection breaks at random moments as well: a handoff may fail, but never half.
TEST_P(Chaos, ALinkThatBreaksAgainAndAgainNeverDeliversHalfAPrompt) {
  const uint32_t seed = GetParam() + testing::UnitTest::GetInstance()->random_seed() * 8;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  connections_ = GetParam() % 2 == 0 ? 1 : 3;
  Start();
  int good = 0;
  for (uint32_t round = 0; round < 40; ++round) {
    if (round % 4 == 0) Reroute({.cut_at = kToFirstFrame + random() % 30'000});
    const HandoffKey key{"r", round + 1};
    const auto from = BlocksFrom(0, 4), to = BlocksFrom(8, 4);
    HandoffEnd<HandoffSent> sent;
    HandoffEnd<HandoffReceived> received;
    Expect(key, 16, to, received, 0, absl::Seconds(3));
    Begin(key, 16, from, sent, absl::Seconds(3));
    ComputeAll(key, 16, from, round);
    const auto out = sent.Wait();
    const auto in = received.Wait();
    EXPECT_NE(out.status().code(), Code::kUnknown);
    EXPECT_TRUE(in.ok() || !out.ok()) << "Completed is said after the receiver has it all";
    if (in.ok()) ExpectSameBytes(from, to);
    good += in.ok();
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (const BlockId block : to) decode_.Fill(layer, block, 1000 + round);
    }
  }
  EXPECT_GT(good, 0);
}

}  // namespace
}  // namespace tandem
