// The time limit of a request is the router's: it runs from the arrival, whatever workers do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/router_fixture.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_clock.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

// Workers that never report a time limit, under a clock that the test moves.
class TimeLimitTest : public ::testing::Test {
 protected:
  TimeLimitTest()
      : prefill_({.role = wv1::ROLE_PREFILL}),
        decode_({.role = wv1::ROLE_DECODE}),
        router_({.workers = {prefill_.address(), decode_.address()}, .clock = &clock_}) {
    router_.AwaitWorkers(2);
    request_.mutable_stopping()->set_time_limit_ms(1000);
  }
  void Start() {
    call_ = router_.Generate(request_);
    d_ = decode_.NextSubmit().handle();
    p_ = prefill_.NextSubmit().handle();
  }
  // The answer's rest, after the clock has come to the limit. Both workers have to stop.
  iv1::GenerateResponse EndAtTheLimit() {
    clock_.Advance(absl::Seconds(1));
    const Answer rest = call_->Rest();
    EXPECT_TRUE(rest.status.ok()) << rest.status.error_message();
    EXPECT_TRUE(decode_.AwaitCancel(d_));
    EXPECT_TRUE(prefill_.AwaitCancel(p_));
    return rest.Joined();
  }

  FakeClock clock_;  // outlives the router
  FakeWorker prefill_, decode_;
  RouterFixture router_;
  iv1::GenerateRequest request_ = TextRequest("Hi");
  std::unique_ptr<Call> call_;
  uint64_t d_ = 0, p_ = 0;
};

TEST_F(TimeLimitTest, EndsARequestThatStillWaitsForRoom) {
  request_.mutable_response()->set_prompt_logprobs(0);  // which never came
  Start();
  const iv1::GenerateResponse answer = EndAtTheLimit();
  ASSERT_EQ(answer.outputs_size(), 1);
  EXPECT_EQ(answer.outputs(0).finish().reason(), iv1::FINISH_REASON_TIME_LIMIT);
  EXPECT_EQ(answer.outputs(0).finish().completion_tokens(), 0u);
  EXPECT_EQ(answer.start().prompt_tokens(), 2u);
  EXPECT_EQ(answer.end().usage().completion_tokens(), 0u);
}

TEST_F(TimeLimitTest, LeavesWhatHasComeAndTheEndOfAnOutputThatWasOver) {
  request_.mutable_sampling()->set_n(2);
  request_.mutable_stopping()->add_stop("END");
  Start();
  prefill_.Send(p_, {.output = 0, .ids = Bytes("a"), .finish = true});
  prefill_.Send(p_, {.output = 1, .ids = Bytes("b")});
  decode_.Send(d_, {.output = 1, .ids = Bytes("bcE")});  // the E may begin a stop string
  std::string text;
  while (text.size() < 3) {
    const iv1::GenerateResponse message = call_->Next();
    for (const iv1::OutputDelta& delta : message.outputs()) text += delta.text();
  }
  const iv1::GenerateResponse rest = EndAtTheLimit();
  for (const iv1::OutputDelta& delta : rest.outputs()) {
    if (delta.index() == 0) continue;
    EXPECT_EQ(delta.text(), "E");
    EXPECT_EQ(delta.finish().reason(), iv1::FINISH_REASON_TIME_LIMIT);
    EXPECT_EQ(delta.finish().completion_tokens(), 3u);
  }
  EXPECT_EQ(rest.end().usage().completion_tokens(), 4u);
}

TEST_F(TimeLimitTest, IsNoErrorOfAWorkerThatGaveUpBecauseOfIt) {
  Start();
  decode_.SendError(d_, 10, "the peer gave up");
  clock_.Advance(absl::Seconds(1));
  const Answer answer = call_->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.Joined().outputs(0).finish().reason(), iv1::FINISH_REASON_TIME_LIMIT);
}

}  // namespace
}  // namespace tandem
