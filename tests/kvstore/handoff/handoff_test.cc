#include "tests/kvstore/handoff/handoff_test.h"

#include <atomic>
#include <mutex>
#include <thread>

// The promises of kvstore/handoff/handoff.h on a network that works.
namespace tandem {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

TEST_F(HandoffTest, LayersTravelWhileLaterOnesAreComputed) {
  Start();
  const HandoffKey key{"r", 1};
  const auto from = BlocksFrom(3, 6), to = BlocksFrom(20, 8);  // 22 tokens: the last block half
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  Begin(key, 22, from, sent);
  Expect(key, 22, to, received);
  uint64_t blocks = 0;
  for (const uint32_t upto : {9u, 16u, 22u}) {  // chunks of a prefill
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (const BlockId block : from) prefill_.Fill(layer, block, 1);
      sender_->LayerReady(key, layer, upto);
      blocks += 2;  // 2, then 4, then 6 of a layer's blocks are whole
      EXPECT_TRUE(Eventually([&] { return receiver_->counters().bytes == blocks * 512; }))
          << "layer " << layer << " is there before the next one is computed";
    }
  }
  EXPECT_EQ(received.calls(), 0) << "not before the first token is there";
  sender_->Finish(key, {{0, 42, false}, {1, 43, true}});
  ASSERT_OK_AND_ASSIGN(const HandoffSent out, sent.Wait());
  ASSERT_OK_AND_ASSIGN(const HandoffReceived in, received.Wait());
  EXPECT_EQ(out.bytes, 6u * 3 * 512);
  EXPECT_EQ(in.bytes, out.bytes);
  ASSERT_EQ(in.first_tokens.size(), 2u);
  EXPECT_EQ(in.first_tokens[0].token_id, 42);
  EXPECT_TRUE(in.first_tokens[1].ended);
  ExpectSameBytes(from, to);
  EXPECT_EQ(decode_.Slice(0, to[6]), absl::MakeConstSpan(std::vector<uint8_t>(512)))
      << "blocks behind the prompt are nobody's business";
}

TEST_F(HandoffTest, NothingIsPushedBeforeTheReceiverHasRoom) {
  std::atomic<int> reserves{0};
  door_.SetFaults({.drop_to_receiver = [&](const ToReceiver& message) {
    reserves += std::holds_alternative<ReserveMessage>(message);
    return false;
  }});
  receiver_options_.park = absl::Seconds(10);
  Start();
  const HandoffKey key{"r", 1};
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  Begin(key, 8, BlocksFrom(0, 2), sent);
  ComputeAll(key, 8, BlocksFrom(0, 2));
  ASSERT_TRUE(Eventually([&] { return reserves >= 2; })) << "asked, and asked again";
  EXPECT_EQ(sender_->counters().frames, 0u);
  Expect(key, 8, BlocksFrom(10, 2), received);
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_THAT(received.Wait(), IsOk());
  ExpectSameBytes(BlocksFrom(0, 2), BlocksFrom(10, 2));
}

TEST_F(HandoffTest, AReserveThatNobodyExpectsIsRefusedAfterTheParkingTime) {
  receiver_options_.park = absl::Milliseconds(200);
  Start();
  HandoffEnd<HandoffSent> sent;
  const absl::Time start = RealClock()->Now();
  Begin({"r", 1}, 8, BlocksFrom(0, 2), sent);
  EXPECT_THAT(sent.Wait(), StatusIs(Code::kUnavailable,
                                    HasSubstr("unknown request: it did not come within 200ms")));
  EXPECT_GE(RealClock()->Now() - start, absl::Milliseconds(200));
  HandoffEnd<HandoffReceived> received;
  Expect({"r", 1}, 8, BlocksFrom(10, 2), received);
  EXPECT_THAT(received.Wait(), StatusIs(Code::kUnavailable)) << "at once: the sender is gone";
}

TEST_F(HandoffTest, AnExpectThatNobodyReservesEndsWithItsDeadline) {
  Start();
  HandoffEnd<HandoffReceived> received;
  Expect({"r", 1}, 8, BlocksFrom(10, 2), received, 0, absl::Milliseconds(50));
  EXPECT_THAT(received.Wait(), StatusIs(Code::kDeadlineExceeded, HasSubstr("never asked")));
}

TEST_F(HandoffTest, BlocksThatAreHeldAreNotSentAgain) {
  Start();
  const HandoffKey key{"r", 1};
  const auto from = BlocksFrom(0, 5), to = BlocksFrom(10, 5);
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  decode_.Fill(1, to[1], 99);
  const std::vector<uint8_t> before(decode_.Slice(1, to[1]).begin(), decode_.Slice(1, to[1]).end());
  Expect(key, 20, to, received, /*held=*/2);
  Begin(key, 20, from, sent);
  ComputeAll(key, 20, from);
  ASSERT_OK_AND_ASSIGN(const HandoffSent out, sent.Wait());
  EXPECT_EQ(out.bytes, 3u * 3 * 512);
  EXPECT_THAT(received.Wait(), IsOk());
  ExpectSameBytes(from, to, 2);
  EXPECT_EQ(decode_.Slice(1, to[1]), absl::MakeConstSpan(before));
}

TEST_F(HandoffTest, APromptThatIsHeldWholeNeedsOnlyTheTokens) {
  Start();
  const HandoffKey key{"r", 1};
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  Expect(key, 8, BlocksFrom(10, 2), received, /*held=*/2);
  Begin(key, 8, BlocksFrom(0, 2), sent);
  sender_->Finish(key, {{0, 7, false}});
  ASSERT_OK_AND_ASSIGN(const HandoffSent out, sent.Wait());
  EXPECT_EQ(out.bytes, 0u);
  ASSERT_OK_AND_ASSIGN(const HandoffReceived in, received.Wait());
  EXPECT_EQ(in.first_tokens[0].token_id, 7);
}

TEST_F(HandoffTest, PromptsOfDifferentLengthAreABugThatIsNamed) {
  Start();
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  Expect({"r", 1}, 9, BlocksFrom(10, 3), received);
  Begin({"r", 1}, 8, BlocksFrom(0, 2), sent);
  EXPECT_THAT(received.Wait(), StatusIs(Code::kInternal, HasSubstr("8 tokens at the prefill")));
  EXPECT_THAT(sent.Wait(), StatusIs(Code::kInternal, HasSubstr("9 here")));
}

TEST_F(HandoffTest, MisuseIsReportedNotObeyed) {
  Start();
  HandoffEnd<HandoffSent> sent, again, empty;
  HandoffEnd<HandoffReceived> received, twice, small;
  Begin({"r", 1}, 8, BlocksFrom(0, 1), sent);
  EXPECT_THAT(sent.Wait(), StatusIs(Code::kInternal, HasSubstr("8 tokens in 1 blocks")));
  Begin({"e", 1}, 0, BlocksFrom(0, 1), empty);
  EXPECT_THAT(empty.Wait(), StatusIs(Code::kInternal));
  Expect({"r", 1}, 8, BlocksFrom(0, 1), small);
  EXPECT_THAT(small.Wait(), StatusIs(Code::kInternal));
  Expect({"r", 1}, 8, BlocksFrom(0, 2), received);
  Expect({"r", 1}, 8, BlocksFrom(2, 2), twice);
  EXPECT_THAT(twice.Wait(), StatusIs(Code::kInternal, HasSubstr("twice")));
  EXPECT_EQ(received.calls(), 0) << "the first one goes on";
  sender_->LayerReady({"unknown", 1}, 0, 8);
  sender_->Finish({"unknown", 1}, {});
  sender_->Abort({"unknown", 1});
  receiver_->Cancel({"unknown", 1}, "no blocks");
  receiver_->Cancel({"r", 1}, "no blocks");
  EXPECT_THAT(received.Wait(), StatusIs(Code::kCancelled));
}

TEST_F(HandoffTest, CancelOnOneSideEndsTheOtherAtOnce) {
  Start();
  for (const bool by_sender : {true, false}) {
    SCOPED_TRACE(by_sender);
    Handoff h{.key = {by_sender ? "a" : "b", 1}};
    Open(h);
    const uint64_t before = receiver_->counters().bytes;
    sender_->LayerReady(h.key, 0, 8);
    ASSERT_TRUE(Eventually([&] { return receiver_->counters().bytes > before; }));
    if (by_sender) sender_->Abort(h.key);
    if (!by_sender) receiver_->Cancel(h.key, "no blocks");
    EXPECT_THAT(h.sent.Wait(), StatusIs(by_sender ? Code::kCancelled : Code::kAborted));
    EXPECT_THAT(h.received.Wait(), StatusIs(by_sender ? Code::kAborted : Code::kCancelled));
    EXPECT_EQ(h.sent.calls(), 1);
    EXPECT_EQ(h.received.calls(), 1);
  }
  EXPECT_EQ(sender_->counters().links_made, 1u) << "the link outlives its handoffs";
}

TEST_F(HandoffTest, ANewerAttemptReplacesAnOlderOne) {
  Start();
  HandoffEnd<HandoffSent> sent1, sent2, stale;
  HandoffEnd<HandoffReceived> received1, received2, received_stale;
  Expect({"r", 1}, 8, BlocksFrom(10, 2), received1);
  Begin({"r", 1}, 8, BlocksFrom(0, 2), sent1);
  sender_->LayerReady({"r", 1}, 0, 8);
  ASSERT_TRUE(Eventually([&] { return receiver_->counters().bytes > 0; }));
  Expect({"r", 2}, 8, BlocksFrom(20, 2), received2);
  EXPECT_THAT(received1.Wait(), StatusIs(Code::kAborted, HasSubstr("attempt 2 replaced it")));
  EXPECT_THAT(sent1.Wait(), StatusIs(Code::kAborted));
  Begin({"r", 2}, 8, BlocksFrom(30, 2), sent2);
  ComputeAll({"r", 2}, 8, BlocksFrom(30, 2), 5);
  EXPECT_THAT(sent2.Wait(), IsOk());
  EXPECT_THAT(received2.Wait(), IsOk());
  ExpectSameBytes(BlocksFrom(30, 2), BlocksFrom(20, 2));

  Begin({"r", 1}, 8, BlocksFrom(0, 2), stale);
  EXPECT_THAT(stale.Wait(), StatusIs(Code::kAborted, HasSubstr("the attempt is over")));
  Expect({"r", 1}, 8, BlocksFrom(10, 2), received_stale);
  EXPECT_THAT(received_stale.Wait(), StatusIs(Code::kAborted));
}

// Holds threads up inside MemoryBlocks::Slice until opened.
class Gate {
 public:
  void Close() { mu_.lock(); }
  void Open() { mu_.unlock(); }
  void Pass() {
    ++waiting_;
    const std::lock_guard<std::mutex> through(mu_);
    --waiting_;
  }
  bool HasWaiter() const { return waiting_ > 0; }

 private:
  std::mutex mu_;
  std::atomic<int> waiting_{0};
};

TEST_F(HandoffTest, TheEngineIsNotToldWhileABlockIsStillWritten) {
  Gate gate;
  decode_.on_slice = [&](uint32_t, BlockId) { gate.Pass(); };
  Start();
  Handoff h;
  Open(h);
  gate.Close();
  sender_->LayerReady(h.key, 0, 8);
  ASSERT_TRUE(Eventually([&] { return gate.HasWaiter(); }));
  receiver_->Cancel(h.key, "no blocks");
  EXPECT_THAT(h.sent.Wait(), StatusIs(Code::kAborted)) << "the sender need not wait";
  EXPECT_EQ(h.received.calls(), 0);
  gate.Open();
  EXPECT_THAT(h.received.Wait(), StatusIs(Code::kCancelled));
}

// Several times: whether the copy or the receiver's thread ends first is a matter of chance.
TEST_F(HandoffTest, AReceiverThatEndsWhileABlockIsWrittenStillTellsTheEngine) {
  Gate gate;
  decode_.on_slice = [&](uint32_t, BlockId) { gate.Pass(); };
  for (int round = 0; round < 5; ++round) {
    Start();
    Handoff h;
    Open(h);
    gate.Close();
    sender_->LayerReady(h.key, 0, 8);
    ASSERT_TRUE(Eventually([&] { return gate.HasWaiter(); }));
    std::thread end([this] { receiver_.reset(); });
    EXPECT_THAT(h.sent.Wait(), testing::Not(IsOk())) << "the receiver is about to end";
    EXPECT_EQ(h.received.calls(), 0);
    gate.Open();
    end.join();
    ASSERT_EQ(h.received.calls(), 1);
    EXPECT_THAT(h.received.Wait(), StatusIs(Code::kCancelled, HasSubstr("shutting down")));
    Stop();
  }
}

TEST_F(HandoffTest, TheEngineIsNotToldWhileABlockIsStillRead) {
  Gate gate;
  prefill_.on_slice = [&](uint32_t, BlockId) { gate.Pass(); };
  Start();
  Handoff h;
  Open(h);
  gate.Close();
  sender_->LayerReady(h.key, 0, 8);
  ASSERT_TRUE(Eventually([&] { return gate.HasWaiter(); }));
  sender_->Abort(h.key);
  EXPECT_THAT(h.received.Wait(), StatusIs(Code::kAborted)) << "the receiver need not wait";
  EXPECT_EQ(h.sent.calls(), 0);
  gate.Open();
  EXPECT_THAT(h.sent.Wait(), StatusIs(Code::kCancelled));
}

TEST_F(HandoffTest, LateFramesAreDiscarded) {
  Start();
  Gate gate;
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  Expect({"r", 1}, 8, BlocksFrom(10, 2), received);
  // The receiver's abort is on its way while the sender still pushes.
  prefill_.on_slice = [&](uint32_t, BlockId) { gate.Pass(); };
  Begin({"r", 1}, 8, BlocksFrom(0, 2), sent);
  gate.Close();
  sender_->LayerReady({"r", 1}, 2, 8);
  ASSERT_TRUE(Eventually([&] { return gate.HasWaiter(); }));
  receiver_->Cancel({"r", 1}, "no blocks");
  ASSERT_THAT(received.Wait(), StatusIs(Code::kCancelled));
  decode_.Fill(2, BlockId{10}, 77);  // the engine's again, and given to someone else
  const auto slice = decode_.Slice(2, BlockId{10});
  const std::vector<uint8_t> theirs(slice.begin(), slice.end());
  gate.Open();
  EXPECT_THAT(sent.Wait(), StatusIs(Code::kAborted));
  EXPECT_TRUE(Eventually([&] { return receiver_->counters().late_frames == 1; }));
  EXPECT_EQ(slice, absl::MakeConstSpan(theirs));
  EXPECT_EQ(receiver_->counters().bytes, 0u);
}

TEST_F(HandoffTest, WithoutALinkAHandoffEndsWithWhatWasTried) {
  sender_options_.link_patience = absl::Milliseconds(300);
  Start();
  door_.Crash(kDecode);
  HandoffEnd<HandoffSent> sent, aborted, late;
  Begin({"r", 1}, 8, BlocksFrom(0, 2), sent);
  Begin({"a", 1}, 8, BlocksFrom(0, 2), aborted);
  Begin({"d", 1}, 8, BlocksFrom(0, 2), late, absl::Milliseconds(30));
  sender_->Abort({"a", 1});
  EXPECT_THAT(aborted.Wait(), StatusIs(Code::kCancelled)) << "at once, not when linking gives up";
  EXPECT_THAT(late.Wait(), StatusIs(Code::kDeadlineExceeded));
  EXPECT_THAT(sent.Wait(),
              StatusIs(Code::kUnavailable, HasSubstr("no KV link to decode: nobody at decode")));
}

TEST_F(HandoffTest, AHandoffWaitsForALinkThatComesLate) {
  Start();
  door_.Crash(kDecode);
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  Begin({"r", 1}, 8, BlocksFrom(0, 2), sent);
  ComputeAll({"r", 1}, 8, BlocksFrom(0, 2));
  Expect({"r", 1}, 8, BlocksFrom(10, 2), received);
  door_.Register(kDecode, receiver_.get());
  EXPECT_THAT(sent.Wait(), IsOk());
  EXPECT_THAT(received.Wait(), IsOk());
}

TEST_F(HandoffTest, EndingASideEndsItsHandoffsOnce) {
  for (const bool sender_first : {true, false}) {
    SCOPED_TRACE(sender_first);
    Start();
    Handoff h;
    Open(h);
    sender_->LayerReady(h.key, 0, 8);
    ASSERT_TRUE(Eventually([&] { return receiver_->counters().bytes > 0; }));
    if (sender_first) sender_.reset();
    if (!sender_first) door_.Crash(kDecode), receiver_.reset();
    EXPECT_THAT(h.sent.Wait(), testing::Not(IsOk()));
    EXPECT_THAT(h.received.Wait(), testing::Not(IsOk()));
    Stop();
    EXPECT_EQ(h.sent.calls(), 1);
    EXPECT_EQ(h.received.calls(), 1);
  }
}

TEST_F(HandoffTest, LimitsAreNamed) {
  sender_options_.max_handoffs = 1;
  sender_options_.max_peers = 1;
  receiver_options_.max_parked = 0;
  Start();
  HandoffEnd<HandoffSent> first, second, third, other;
  Begin({"a", 1}, 8, BlocksFrom(0, 2), first);
  Begin({"b", 1}, 8, BlocksFrom(0, 2), second);
  EXPECT_THAT(second.Wait(), StatusIs(Code::kUnavailable, HasSubstr("all 1 handoffs")));
  EXPECT_THAT(first.Wait(), StatusIs(Code::kUnavailable, HasSubstr("too many wait")));
  sender_->Begin({"c", 1}, "elsewhere", 8, BlocksFrom(0, 2), In(absl::Seconds(1)),
                 other.Callback());
  EXPECT_THAT(other.Wait(), StatusIs(Code::kUnavailable, HasSubstr("1 peers")));
}

}  // namespace
}  // namespace tandem
