// Requests that go well, through a whole router with fake workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <google/protobuf/util/message_differencer.h>

#include "tests/router/router_fixture.h"
#include "tests/support/byte_tokenizer.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

using ::testing::ElementsAreArray;

// One worker that does both, or a prefill and a decode worker, and a router before them.
class GenerateTest : public ::testing::Test {
 protected:
  void StartUnified(std::vector<std::string> sets = {}) {
    one_ = std::make_unique<FakeWorker>(FakeWorker::Options());
    router_ = std::make_unique<RouterFixture>(
        RouterFixture::Options{.workers = {one_->address()}, .sets = std::move(sets)});
    router_->AwaitWorkers(1);
  }
  void StartSplit() {
    prefill_ = std::make_unique<FakeWorker>(FakeWorker::Options{.role = wv1::ROLE_PREFILL});
    decode_ = std::make_unique<FakeWorker>(FakeWorker::Options{.role = wv1::ROLE_DECODE});
    router_ = std::make_unique<RouterFixture>(
        RouterFixture::Options{.workers = {prefill_->address(), decode_->address()}});
    router_->AwaitWorkers(2);
  }

  std::unique_ptr<FakeWorker> one_, prefill_, decode_;
  std::unique_ptr<RouterFixture> router_;
};

TEST_F(GenerateTest, StreamsEachTokenAsItComes) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("Hi", 3);
  request.set_priority(-7);
  auto call = router_->Generate(request);
  const wv1::Submit submit = one_->NextSubmit();
  EXPECT_EQ(submit.role(), wv1::ROLE_UNIFIED);
  EXPECT_EQ(submit.priority(), -7);
  EXPECT_EQ(submit.attempt(), 1u);
  EXPECT_THAT(submit.prompt_ids(), ElementsAreArray(Bytes("Hi")));
  EXPECT_EQ(submit.stopping().max_tokens(), 3u);
  one_->Accept(submit.handle(), 2);

  one_->Send(submit.handle(), {.first_index = 0, .ids = Bytes("a"), .cached_tokens = 1});
  const iv1::GenerateResponse first = call->Next();  // before the worker has sent the next one
  EXPECT_EQ(first.outputs(0).text(), "a");
  EXPECT_EQ(first.start().prompt_tokens(), 2u);
  EXPECT_EQ(first.start().model(), "bytes");
  EXPECT_EQ(first.start().model_revision(), "weights");
  EXPECT_FALSE(first.start().request_id().empty());

  one_->Send(submit.handle(), {.first_index = 1, .ids = Bytes("b")});
  EXPECT_EQ(call->Next().outputs(0).text(), "b");
  one_->Send(
      submit.handle(),
      {.first_index = 2, .ids = Bytes("c"), .finish = true, .reason = iv1::FINISH_REASON_LENGTH});
  const Answer rest = call->Rest();
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  const iv1::GenerateResponse last = rest.messages.back();
  EXPECT_EQ(last.outputs(0).finish().reason(), iv1::FINISH_REASON_LENGTH);
  EXPECT_EQ(last.outputs(0).finish().completion_tokens(), 3u);
  EXPECT_EQ(last.end().usage().prompt_tokens(), 2u);
  EXPECT_EQ(last.end().usage().cached_tokens(), 1u);
  EXPECT_EQ(last.end().usage().completion_tokens(), 3u);
  EXPECT_EQ(last.end().serving().prefill_worker(), one_->address());
  EXPECT_EQ(last.end().serving().decode_worker(), one_->address());
  EXPECT_EQ(last.end().serving().attempts(), 1u);
  EXPECT_GT(last.end().serving().total_us(), 0u);
}

TEST_F(GenerateTest, SplitForwardsTheFirstTokenFromThePrefillWorkerAndDropsItsRepetition) {
  StartSplit();
  auto call = router_->Generate(TextRequest("Hi"));
  const wv1::Submit d = decode_->NextSubmit();
  const wv1::Submit p = prefill_->NextSubmit();
  EXPECT_EQ(d.role(), wv1::ROLE_DECODE);
  EXPECT_EQ(p.role(), wv1::ROLE_PREFILL);
  EXPECT_EQ(p.peer(), decode_->address());
  EXPECT_EQ(p.request_id(), d.request_id());
  EXPECT_EQ(p.sampling().seed(), d.sampling().seed());

  prefill_->Send(p.handle(), {.first_index = 0, .ids = Bytes("x")});
  EXPECT_EQ(call->Next().outputs(0).text(), "x");
  decode_->Send(d.handle(), {.first_index = 0, .ids = Bytes("x")});
  decode_->Send(d.handle(), {.first_index = 1, .ids = Bytes("yz"), .finish = true});
  prefill_->SendHandoffDone(p.handle(), 4711);
  const Answer rest = call->Rest();
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.text(), "yz");
  const iv1::ResponseEnd& end = rest.messages.back().end();
  EXPECT_EQ(end.usage().completion_tokens(), 3u);
  EXPECT_EQ(end.serving().kv_bytes(), 4711u);
  EXPECT_EQ(end.serving().prefill_worker(), prefill_->address());
  EXPECT_EQ(end.serving().decode_worker(), decode_->address());
}

TEST_F(GenerateTest, WorkersGetAnIdOfTheRoutersOwnSoThatAClientMayUseItsIdAgain) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("Hi", 1);
  request.set_request_id("mine");
  std::vector<std::string> ids;
  for (int i = 0; i < 2; ++i) {
    auto call = router_->Generate(request);
    const wv1::Submit submit = one_->NextSubmit();
    ids.push_back(submit.request_id());
    one_->Send(submit.handle(), {.first_index = 0, .ids = Bytes("a"), .finish = true});
    const Answer answer = call->Rest();
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.Joined().start().request_id(), "mine");
  }
  EXPECT_NE(ids[0], "mine");
  EXPECT_NE(ids[0], ids[1]);
}

TEST_F(GenerateTest, TokensOfTheDecodeWorkerWaitForTheLogprobsThatOnlyThePrefillWorkerHas) {
  StartSplit();
  iv1::GenerateRequest request = TextRequest("Hi");
  request.mutable_response()->set_logprobs(0);
  auto call = router_->Generate(request);
  const wv1::Submit d = decode_->NextSubmit();
  const wv1::Submit p = prefill_->NextSubmit();
  decode_->Send(d.handle(), {.first_index = 0, .ids = Bytes("x")});
  decode_->Send(d.handle(),
                {.first_index = 1, .ids = Bytes("y"), .logprobs = {-2.0f}, .finish = true});
  prefill_->Send(p.handle(), {.first_index = 0, .ids = Bytes("x"), .logprobs = {-1.0f}});
  prefill_->SendHandoffDone(p.handle(), 1);
  const Answer answer = call->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const iv1::OutputDelta output = answer.Joined().outputs(0);
  ASSERT_EQ(output.logprobs_size(), 2);
  EXPECT_EQ(output.logprobs(0).token().logprob(), -1.0f);
  EXPECT_EQ(output.logprobs(1).token().logprob(), -2.0f);
  EXPECT_THAT(output.token_ids(), ElementsAreArray(Bytes("xy")));
}

TEST_F(GenerateTest, PromptLogprobsComeInTheFirstMessage) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("abc");
  request.mutable_response()->set_prompt_logprobs(0);
  auto call = router_->Generate(request);
  const wv1::Submit submit = one_->NextSubmit();
  wv1::SequenceStep step;
  step.set_handle(submit.handle());
  for (const int32_t id : Bytes("bc"))
    step.add_prompt_logprobs()->mutable_token()->set_token_id(id);
  one_->SendStep(step);
  one_->Send(submit.handle(), {.first_index = 0, .ids = Bytes("x"), .finish = true});
  const Answer answer = call->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const iv1::ResponseStart& start = answer.messages[0].start();
  ASSERT_EQ(start.prompt_logprobs_size(), 3);
  EXPECT_FALSE(start.prompt_logprobs(0).has_token());
  EXPECT_EQ(start.prompt_logprobs(2).token().token_id(), 'c');
}

TEST_F(GenerateTest, ATimeLimitInThePromptEndsTheAnswerWithoutTokens) {
  StartSplit();
  iv1::GenerateRequest request = TextRequest("abc", 9);
  request.mutable_stopping()->set_time_limit_ms(3'000'000);
  request.mutable_response()->set_prompt_logprobs(0);
  auto call = router_->Generate(request);
  const wv1::Submit d = decode_->NextSubmit();
  EXPECT_LE(d.stopping().time_limit_ms(), 3'000'000u) << "what is left of it";
  EXPECT_GT(d.stopping().time_limit_ms(), 2'000'000u);
  const wv1::Submit p = prefill_->NextSubmit();
  prefill_->Send(p.handle(), {.finish = true, .reason = iv1::FINISH_REASON_TIME_LIMIT});
  const Answer answer = call->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const iv1::GenerateResponse last = answer.messages.back();
  EXPECT_EQ(last.outputs(0).finish().reason(), iv1::FINISH_REASON_TIME_LIMIT);
  EXPECT_EQ(last.outputs(0).finish().completion_tokens(), 0u);
  EXPECT_TRUE(decode_->AwaitCancel(d.handle()));
}

TEST_F(GenerateTest, AStopStringAcrossTokensEndsTheOutputAndItsWork) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("Hi");
  request.mutable_stopping()->add_stop("END");
  auto call = router_->Generate(request);
  const wv1::Submit submit = one_->NextSubmit();
  one_->Send(submit.handle(), {.first_index = 0, .ids = Bytes("abE")});
  EXPECT_EQ(call->Next().outputs(0).text(), "ab");  // the E may begin the stop string
  one_->Send(submit.handle(), {.first_index = 3, .ids = Bytes("N")});
  one_->Send(submit.handle(), {.first_index = 4, .ids = Bytes("Dxyz")});
  const Answer rest = call->Rest();
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  const iv1::GenerateResponse all = rest.Joined();
  EXPECT_EQ(all.outputs(0).text(), "");
  EXPECT_THAT(all.outputs(0).token_ids(), ElementsAreArray(Bytes("ND")));
  EXPECT_EQ(all.outputs(0).finish().reason(), iv1::FINISH_REASON_STOP);
  EXPECT_EQ(all.outputs(0).finish().stop(), "END");
  EXPECT_EQ(all.end().usage().completion_tokens(), 5u);  // not x, y and z
  EXPECT_TRUE(one_->AwaitCancel(submit.handle()));
}

TEST_F(GenerateTest, AStopStringIsKeptWhereAskedFor) {
  StartUnified();
  one_->AnswerAll("abENDxyz");
  iv1::GenerateRequest request = TextRequest("Hi");
  request.mutable_stopping()->add_stop("END");
  request.mutable_stopping()->set_include_stop(true);
  EXPECT_EQ(router_->GenerateAll(request).text(), "abEND");
}

TEST_F(GenerateTest, AStopTokenIsCountedButNotShown) {
  StartUnified();
  auto call = router_->Generate(TextRequest("Hi"));
  const wv1::Submit submit = one_->NextSubmit();
  one_->Send(submit.handle(),
             {.first_index = 0, .ids = Bytes("ok!"), .finish = true, .stop_token_id = '!'});
  const Answer answer = call->Rest();
  const iv1::OutputDelta output = answer.Joined().outputs(0);
  EXPECT_EQ(output.text(), "ok");
  EXPECT_THAT(output.token_ids(), ElementsAreArray(Bytes("ok!")));
  EXPECT_EQ(output.finish().stop_token_id(), '!');
  EXPECT_EQ(answer.Joined().end().usage().completion_tokens(), 3u);
}

TEST_F(GenerateTest, OnceEqualsTheJoinedStream) {
  StartUnified();
  one_->AnswerAll(
      "Gr\xC3\xBC\xC3\x9F"
      "e, \xE4\xB8\x96\xE7\x95\x8C!");
  iv1::GenerateRequest request = TextRequest("Hi", 12);
  request.mutable_sampling()->set_seed(5);
  request.set_request_id("same");
  iv1::GenerateResponse streamed = router_->GenerateAll(request).Joined();
  iv1::GenerateResponse once = router_->GenerateOnce(request).Joined();
  for (iv1::GenerateResponse* one : {&streamed, &once}) {
    one->mutable_end()->mutable_serving()->clear_first_token_us();
    one->mutable_end()->mutable_serving()->clear_total_us();
  }
  EXPECT_EQ(streamed.outputs(0).token_ids_size(), 12);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(streamed, once))
      << streamed.DebugString() << once.DebugString();
}

TEST_F(GenerateTest, ASeedIsDrawnAndReturnedWhereNoneIsGiven) {
  StartUnified();
  one_->AnswerAll("a");
  iv1::GenerateRequest request = TextRequest("Hi");
  const uint64_t first = router_->GenerateOnce(request).Joined().start().seed();
  EXPECT_EQ(one_->NextSubmit().sampling().seed(), first);
  EXPECT_NE(router_->GenerateOnce(request).Joined().start().seed(), first);
  request.mutable_sampling()->set_seed(0);
  EXPECT_EQ(router_->GenerateOnce(request).Joined().start().seed(), 0u);
}

TEST_F(GenerateTest, ChatIsRenderedAndLookAlikesInItStayText) {
  StartUnified();
  one_->AnswerAll("a");
  iv1::GenerateRequest request = TextRequest("");
  iv1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("<|im_end|>");
  ASSERT_TRUE(router_->GenerateOnce(request).status.ok());
  std::vector<int32_t> want = {kImStart};
  for (const int32_t id : Bytes("user\n<|im_end|>")) want.push_back(id);
  want.push_back(kImEnd);
  want.push_back('\n');
  want.push_back(kImStart);
  for (const int32_t id : Bytes("assistant\n")) want.push_back(id);
  EXPECT_THAT(one_->NextSubmit().prompt_ids(), ElementsAreArray(want));
}

TEST_F(GenerateTest, TruncationKeepsThePromptsLastTokens) {
  StartUnified();
  one_->AnswerAll("a");
  iv1::GenerateRequest request = TextRequest("abcdef");
  request.set_truncate_prompt_tokens(2);
  ASSERT_TRUE(router_->GenerateOnce(request).status.ok());
  EXPECT_THAT(one_->NextSubmit().prompt_ids(), ElementsAreArray(Bytes("ef")));
}

TEST_F(GenerateTest, TextIsLeftOutWhereTheClientDetokenises) {
  StartUnified();
  one_->AnswerAll("abc");
  iv1::GenerateRequest request = TextRequest("Hi");
  request.mutable_response()->set_no_text(true);
  const iv1::OutputDelta output = router_->GenerateOnce(request).Joined().outputs(0);
  EXPECT_EQ(output.text(), "");
  EXPECT_THAT(output.token_ids(), ElementsAreArray(Bytes("abc")));
}

TEST_F(GenerateTest, MetricsCountTheRequestAndItsTokens) {
  StartUnified();
  one_->AnswerAll("abc");
  ASSERT_TRUE(router_->GenerateAll(TextRequest("Hi")).status.ok());
  const std::string want = "tandem_tokens_total{model=\"bytes\",type=\"output\"} 3";
  EXPECT_TRUE(router_->Await([&] {
    return router_->router()->MetricsText().find(want) != std::string::npos;
  })) << router_->router()->MetricsText();
}

}  // namespace
}  // namespace tandem
