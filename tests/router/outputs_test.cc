// Several outputs of one prompt, through a whole router with fake workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/router/router_fixture.h"
#include "tests/support/byte_tokenizer.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

class OutputsTest : public ::testing::Test {
 protected:
  void Start(const FakeWorker::Options& options = {}) {
    one_ = std::make_unique<FakeWorker>(options);
    router_ = std::make_unique<RouterFixture>(RouterFixture::Options{.workers = {one_->address()}});
    router_->AwaitWorkers(1);
  }
  void StartSplit() {
    prefill_ = std::make_unique<FakeWorker>(FakeWorker::Options{.role = wv1::ROLE_PREFILL});
    decode_ = std::make_unique<FakeWorker>(FakeWorker::Options{.role = wv1::ROLE_DECODE});
    router_ = std::make_unique<RouterFixture>(
        RouterFixture::Options{.workers = {prefill_->address(), decode_->address()}});
    router_->AwaitWorkers(2);
  }
  iv1::GenerateRequest Several(uint32_t n, const std::string& stop = "") {
    iv1::GenerateRequest request = TextRequest("Hi");
    request.mutable_sampling()->set_n(n);
    if (!stop.empty()) request.mutable_stopping()->add_stop(stop);
    return request;
  }

  std::unique_ptr<FakeWorker> one_, prefill_, decode_;
  std::unique_ptr<RouterFixture> router_;
};

TEST_F(OutputsTest, EachHasItsTextTokensLogprobsAndEnd) {
  Start();
  iv1::GenerateRequest request = Several(3, "!");
  request.mutable_response()->set_logprobs(0);
  auto call = router_->Generate(request);
  const wv1::Submit submit = one_->NextSubmit();
  EXPECT_EQ(submit.sampling().n(), 3u);
  const uint64_t handle = submit.handle();
  one_->Accept(handle);
  for (uint32_t i = 0; i < 3; ++i) {
    one_->Send(handle, {.output = i,
                        .ids = Bytes(std::string(1, 'a' + i)),
                        .logprobs = {-1.0f - i},
                        .cached_tokens = i == 0 ? 1u : 0u});
  }
  // Out of order, and the first ends first.
  one_->Send(handle, {.output = 0,
                      .first_index = 1,
                      .ids = Bytes("x"),
                      .logprobs = {-5},
                      .finish = true,
                      .reason = iv1::FINISH_REASON_LENGTH});
  one_->Send(handle, {.output = 2, .first_index = 2, .ids = Bytes("z"), .logprobs = {-7}});
  one_->Send(handle, {.output = 2, .first_index = 1, .ids = Bytes("y"), .logprobs = {-6}});
  one_->Send(
      handle,
      {.output = 2, .first_index = 3, .finish = true, .reason = iv1::FINISH_REASON_TIME_LIMIT});
  one_->Send(handle, {.output = 1, .first_index = 1, .ids = Bytes("q!"), .logprobs = {-8, -9}});
  const Answer answer = call->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const iv1::GenerateResponse joined = answer.Joined();
  ASSERT_EQ(joined.outputs_size(), 3);
  const struct {
    std::string text, tokens;
    iv1::FinishReason reason;
    float last;
  } want[] = {{"ax", "ax", iv1::FINISH_REASON_LENGTH, -5},
              {"bq", "bq!", iv1::FINISH_REASON_STOP, -9},
              {"cyz", "cyz", iv1::FINISH_REASON_TIME_LIMIT, -7}};
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const iv1::OutputDelta& output = joined.outputs(i);
    EXPECT_EQ(output.index(), i);
    EXPECT_EQ(output.text(), want[i].text);
    EXPECT_THAT(output.token_ids(), ElementsAreArray(Bytes(want[i].tokens)));
    EXPECT_EQ(output.finish().reason(), want[i].reason);
    EXPECT_EQ(output.finish().completion_tokens(), want[i].tokens.size());
    ASSERT_EQ(output.logprobs_size(), static_cast<int>(want[i].tokens.size()));
    EXPECT_EQ(output.logprobs(0).token().logprob(), -1.0f - i);
    EXPECT_EQ(output.logprobs(output.logprobs_size() - 1).token().logprob(), want[i].last);
  }
  EXPECT_EQ(joined.outputs(1).finish().stop(), "!");
  EXPECT_EQ(joined.end().usage().prompt_tokens(), 2u);
  EXPECT_EQ(joined.end().usage().cached_tokens(), 1u);
  EXPECT_EQ(joined.end().usage().completion_tokens(), 8u);
  EXPECT_THAT(router_->router()->MetricsText(),
              AllOf(HasSubstr("tandem_tokens_total{model=\"bytes\",type=\"input\"} 2"),
                    HasSubstr("tandem_tokens_total{model=\"bytes\",type=\"output\"} 8")));
}

TEST_F(OutputsTest, AStopStringCancelsItsOutputAloneAndTheOthersGoOn) {
  Start();
  auto call = router_->Generate(Several(2, "!"));
  const uint64_t handle = one_->NextSubmit().handle();
  one_->Send(handle, {.output = 0, .ids = Bytes("ab")});
  one_->Send(handle, {.output = 1, .ids = Bytes("c!")});
  EXPECT_TRUE(one_->AwaitCancelOutput(handle, 1));
  EXPECT_FALSE(one_->cancelled(handle));
  // What was under way is dropped, and so is its end.
  one_->Send(handle, {.output = 1, .first_index = 2, .ids = Bytes("dropped")});
  one_->Send(
      handle,
      {.output = 1, .first_index = 9, .finish = true, .reason = iv1::FINISH_REASON_CANCELLED});
  one_->Send(handle, {.output = 0, .first_index = 2, .ids = Bytes("d"), .finish = true});
  const Answer answer = call->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.Joined().outputs(0).text(), "abd");
  EXPECT_EQ(answer.Joined().outputs(1).text(), "c");
  EXPECT_EQ(answer.Joined().end().usage().completion_tokens(), 5u);
  EXPECT_FALSE(one_->cancelled(handle)) << "it has ended by itself";
}

TEST_F(OutputsTest, WhenStopStringsHaveEndedAllTheRequestIsCancelled) {
  Start();
  auto call = router_->Generate(Several(2, "!"));
  const uint64_t handle = one_->NextSubmit().handle();
  one_->Send(handle, {.output = 0, .ids = Bytes("a!")});
  one_->Send(handle, {.output = 1, .ids = Bytes("b!")});
  ASSERT_TRUE(call->Rest().status.ok());
  EXPECT_TRUE(one_->AwaitCancel(handle));
}

TEST_F(OutputsTest, ASplitRequestsOutputsAreForwardedOnceAndInOrder) {
  StartSplit();
  auto call = router_->Generate(Several(3, "!"));
  const uint64_t d = decode_->NextSubmit().handle();
  const uint64_t p = prefill_->NextSubmit().handle();
  prefill_->Send(p, {.output = 0, .ids = Bytes("a")});
  prefill_->Send(p, {.output = 1, .ids = Bytes("b"), .finish = true, .stop_token_id = 'b'});
  prefill_->Send(p, {.output = 2, .ids = Bytes("!")});
  prefill_->SendHandoffDone(p, 77);
  decode_->Send(d, {.output = 0, .ids = Bytes("a")});
  decode_->Send(d, {.output = 1, .ids = Bytes("b"), .finish = true, .stop_token_id = 'b'});
  decode_->Send(d, {.output = 2, .ids = Bytes("!")});
  EXPECT_TRUE(decode_->AwaitCancelOutput(d, 2)) << "once it is known to be there";
  decode_->Send(d, {.output = 0, .first_index = 1, .ids = Bytes("xy"), .finish = true});
  const Answer answer = call->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const iv1::GenerateResponse joined = answer.Joined();
  EXPECT_EQ(joined.outputs(0).text(), "axy");
  EXPECT_EQ(joined.outputs(1).finish().stop_token_id(), 'b');
  EXPECT_EQ(joined.outputs(2).finish().stop(), "!");
  EXPECT_EQ(joined.end().usage().completion_tokens(), 5u);
  EXPECT_EQ(joined.end().serving().kv_bytes(), 77u);
}

TEST_F(OutputsTest, TwoReportsThatDifferAreAnAlarmInAnyOutput) {
  StartSplit();
  auto call = router_->Generate(Several(2));
  const uint64_t d = decode_->NextSubmit().handle();
  const uint64_t p = prefill_->NextSubmit().handle();
  prefill_->Send(p, {.output = 0, .ids = Bytes("a")});
  prefill_->Send(p, {.output = 1, .ids = Bytes("b")});
  decode_->Send(d, {.output = 0, .ids = Bytes("a")});
  decode_->Send(d, {.output = 1, .ids = Bytes("a")});
  EXPECT_EQ(call->Rest().status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(router_->router()->MetricsText(), HasSubstr("tandem_token_conflicts_total 1"));
  EXPECT_TRUE(decode_->AwaitCancel(d));
}

TEST_F(OutputsTest, AnErrorEndsAllOfThem) {
  Start();
  auto call = router_->Generate(Several(2));
  const uint64_t handle = one_->NextSubmit().handle();
  one_->Send(handle, {.output = 0, .ids = Bytes("a"), .finish = true});
  one_->SendError(handle, 13, "the model broke");
  EXPECT_EQ(call->Rest().status.error_code(), grpc::StatusCode::INTERNAL);
}

TEST_F(OutputsTest, AWholeAnswerHasThemInOrder) {
  Start();
  Answer answer;
  std::thread client([&] { answer = router_->GenerateOnce(Several(3)); });
  const uint64_t handle = one_->NextSubmit().handle();
  for (const uint32_t i : {2u, 0u, 1u}) {
    one_->Send(handle, {.output = i, .ids = Bytes(std::string(1, 'a' + i)), .finish = true});
  }
  client.join();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.messages[0].outputs_size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(answer.messages[0].outputs(i).index(), i);
    EXPECT_EQ(answer.messages[0].outputs(i).text(), std::string(1, 'a' + i));
  }
}

// 100 blocks: without max_tokens they are shared out, with it the request is refused.
TEST_F(OutputsTest, TheDefaultOfMaxTokensLeavesRoomForAll) {
  Start({.blocks = 100});
  iv1::GenerateRequest request = Several(8);
  request.mutable_stopping()->clear_max_tokens();
  auto call = router_->Generate(request);
  const wv1::Submit submit = one_->NextSubmit();
  EXPECT_EQ(submit.stopping().max_tokens(), 12 * 16u - 2);
  call->Cancel();
  EXPECT_TRUE(one_->AwaitCancel(submit.handle()));
  request.mutable_stopping()->set_max_tokens(12 * 16 - 1);
  const grpc::Status refused = router_->GenerateAll(request).status;
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("max_tokens of 191, for each of 8 outputs"));
}

TEST_F(OutputsTest, MoreThanAWorkerRunsAtOnceAreRefusedWithBothNumbers) {
  Start({.max_sequences = 3});
  const grpc::Status refused = router_->GenerateAll(Several(4)).status;
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(),
              AllOf(HasSubstr("sampling.n: 4 outputs"), HasSubstr("at most 3 sequences")));
}

}  // namespace
}  // namespace tandem
