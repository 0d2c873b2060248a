#include <gtest/gtest.h>

#include <atomic>

#include "tests/kvstore/handoff/handoff_test.h"

// A request that waits in the decode worker's queue keeps its prefill worker waiting, for as long
// as it stays there; one that the decode worker has not heard of is refused after the park time.
namespace tandem {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

class QueueTest : public HandoffTest {
 protected:
  QueueTest() {
    receiver_options_.park = absl::Milliseconds(100);  // two renewals
    door_.SetFaults({.drop_to_receiver = [this](const ToReceiver& message) {
      reserves_ += std::holds_alternative<ReserveMessage>(message);
      return false;
    }});
  }
  ~QueueTest() override { Stop(); }
  void Announce(absl::Duration deadline = absl::Seconds(10)) {
    receiver_->Announce(h_.key, In(deadline), [this] { ++asked_; });
  }
  void BeginAndCompute() {
    Begin(h_.key, h_.tokens, h_.from, h_.sent);
    ComputeAll(h_.key, h_.tokens, h_.from);
  }
  // The sender has asked `times` more; it asks every 50 ms.
  void AwaitReserves(int times) {
    const int before = reserves_;
    ASSERT_TRUE(Eventually([&] { return reserves_ >= before + times; }));
  }
  void ExpectAndFinish() {
    EXPECT_EQ(h_.sent.calls(), 0);
    Expect(h_.key, h_.tokens, h_.to, h_.received);
    EXPECT_THAT(h_.sent.Wait(), IsOk());
    EXPECT_THAT(h_.received.Wait(), IsOk());
    ExpectSameBytes(h_.from, h_.to);
  }

  Handoff h_;
  std::atomic<int> reserves_{0};
  std::atomic<int> asked_{0};
};

TEST_F(QueueTest, TheSenderWaitsForAsLongAsTheRequestIsInTheQueue) {
  Start();
  Announce();
  BeginAndCompute();
  AwaitReserves(8);  // four times the park time
  EXPECT_EQ(asked_, 1) << "the engine was told once that the sender has started";
  EXPECT_EQ(sender_->counters().frames, 0u);
  ExpectAndFinish();
}

TEST_F(QueueTest, ARequestThatComesAfterTheSendersQuestionLiftsItsLimit) {
  receiver_options_.park = absl::Milliseconds(500);
  Start();
  BeginAndCompute();
  AwaitReserves(1);
  Announce();
  AwaitReserves(20);  // twice the park time
  EXPECT_EQ(asked_, 1);
  ExpectAndFinish();
}

TEST_F(QueueTest, LeavingTheQueueTellsTheSenderThatThereWasNoRoom) {
  Start();
  Announce();
  BeginAndCompute();
  AwaitReserves(3);
  receiver_->Cancel(h_.key, "no blocks");
  EXPECT_THAT(h_.sent.Wait(),
              StatusIs(Code::kUnavailable, HasSubstr("left the decode worker's queue: no blocks")));
  Expect(h_.key, h_.tokens, h_.to, h_.received);
  EXPECT_THAT(h_.received.Wait(), StatusIs(Code::kCancelled)) << "at once: the sender is gone";
}

TEST_F(QueueTest, ASenderThatAsksAfterThatHearsTheSame) {
  Start();
  Announce();
  receiver_->Cancel(h_.key, "no blocks");
  BeginAndCompute();
  EXPECT_THAT(h_.sent.Wait(),
              StatusIs(Code::kUnavailable, HasSubstr("left the decode worker's queue: no blocks")));
}

TEST_F(QueueTest, TheRequestsDeadlineEndsTheWaiting) {
  Start();
  Announce(absl::Milliseconds(250));
  BeginAndCompute();
  EXPECT_THAT(h_.sent.Wait(),
              StatusIs(Code::kDeadlineExceeded, HasSubstr("never left the decode worker's queue")));
}

TEST_F(QueueTest, ANewerAttemptInTheQueueEndsTheOlderOne) {
  Start();
  Announce();
  BeginAndCompute();
  AwaitReserves(1);
  receiver_->Announce({h_.key.request_id, 2}, In(absl::Seconds(10)), [] {});
  EXPECT_THAT(h_.sent.Wait(), StatusIs(Code::kAborted, HasSubstr("the attempt is over")));
}

TEST_F(QueueTest, ALinkThatBreaksMeanwhileCostsNothing) {
  Start();
  Announce();
  BeginAndCompute();
  AwaitReserves(1);
  door_.Crash(kDecode);
  door_.Register(kDecode, receiver_.get());
  AwaitReserves(4);
  EXPECT_EQ(sender_->counters().links_made, 2u);
  ExpectAndFinish();
}

TEST_F(QueueTest, ASenderThatGivesUpIsToldToTheEngineOnceItExpects) {
  Start();
  Announce();
  BeginAndCompute();
  AwaitReserves(1);
  sender_->Abort(h_.key);
  ASSERT_THAT(h_.sent.Wait(), StatusIs(Code::kCancelled));
  Expect(h_.key, h_.tokens, h_.to, h_.received);
  EXPECT_THAT(h_.received.Wait(), StatusIs(Code::kAborted));
  EXPECT_EQ(h_.received.calls(), 1);
}

}  // namespace
}  // namespace tandem
