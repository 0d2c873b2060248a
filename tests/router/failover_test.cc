// Requests whose workers fail, through a whole router with fake workers: the client sees a pause.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/router/router_fixture.h"
#include "tests/support/byte_tokenizer.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

class FailoverTest : public ::testing::Test {
 protected:
  using Workers = std::vector<FakeWorker*>;

  FakeWorker* Add(FakeWorker::Options options) {
    workers_.push_back(std::make_unique<FakeWorker>(std::move(options)));
    return workers_.back().get();
  }
  FakeWorker* Add(wv1::Role role) { return Add(FakeWorker::Options{.role = role}); }
  void Start(std::vector<std::string> sets = {}, size_t stream_window = 0) {
    std::vector<std::string> addresses;
    for (const auto& worker : workers_) addresses.push_back(worker->address());
    router_ = std::make_unique<RouterFixture>(RouterFixture::Options{
        .workers = std::move(addresses), .sets = std::move(sets), .stream_window = stream_window});
    router_->AwaitWorkers(static_cast<uint32_t>(workers_.size()));
  }
  // The worker that a request reached, whichever that is.
  struct Taken {
    FakeWorker* by = nullptr;
    wv1::Submit submit;
  };
  Taken Next() {
    Taken taken;
    EXPECT_TRUE(router_->Await([&] {
      for (const auto& worker : workers_) {
        if (worker->has_submit()) taken.by = worker.get();
      }
      return taken.by != nullptr;
    }));
    taken.submit = taken.by->NextSubmit();
    return taken;
  }

  // A request for log-probabilities that a prefill and a decode worker have.
  struct Split {
    std::unique_ptr<Call> call;
    FakeWorker *prefill, *decode;
    wv1::Submit at_decode;
  };
  Split BeginSplitWithLogprobs() {
    FakeWorker* prefill = Add(wv1::ROLE_PREFILL);
    FakeWorker* decode = Add(wv1::ROLE_DECODE);
    Start();
    iv1::GenerateRequest request = TextRequest("Hi", 9);
    request.mutable_response()->set_logprobs(0);
    auto call = router_->Generate(request);
    prefill->NextSubmit();
    return {std::move(call), prefill, decode, decode->NextSubmit()};
  }

  // Until the router has heard what this decode worker has said so far.
  void AwaitHeard(FakeWorker* decode) {
    for (const bool draining : {true, false}) {
      wv1::Load load;
      load.set_draining(draining);
      decode->SendLoad(load);
      const std::string metric =
          absl::StrCat("tandem_workers{role=\"decode\",state=\"draining\"} ", draining ? 1 : 0);
      ASSERT_TRUE(router_->Await(
          [&] { return router_->router()->MetricsText().find(metric) != std::string::npos; }));
    }
  }

  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::unique_ptr<RouterFixture> router_;
};

TEST_F(FailoverTest, AnotherWorkerGoesOnBehindWhatTheClientHas) {
  iv1::GenerateRequest request = TextRequest("Hi", 9);
  request.mutable_sampling()->set_temperature(0.5f);
  request.mutable_stopping()->set_min_tokens(4);
  Add(wv1::ROLE_UNIFIED);
  Add(wv1::ROLE_UNIFIED);
  Start();
  auto call = router_->Generate(request);
  const auto [one, first] = Next();
  one->Send(first.handle(), {.first_index = 0, .ids = Bytes("ab"), .cached_tokens = 1});
  EXPECT_EQ(call->Next().outputs(0).text(), "ab");
  one->EndSession();
  const auto [other, again] = Next();
  EXPECT_NE(other, one);
  EXPECT_EQ(again.attempt(), 2u);
  EXPECT_EQ(again.role(), wv1::ROLE_UNIFIED);
  EXPECT_EQ(again.request_id(), first.request_id());
  EXPECT_EQ(again.sampling().SerializeAsString(), first.sampling().SerializeAsString());
  EXPECT_EQ(again.stopping().SerializeAsString(), first.stopping().SerializeAsString());
  EXPECT_THAT(again.prompt_ids(), ElementsAreArray(first.prompt_ids()));
  ASSERT_EQ(again.resume_size(), 1);
  EXPECT_EQ(again.resume(0).output_index(), 0u);
  EXPECT_THAT(again.resume(0).token_ids(), ElementsAreArray(Bytes("ab")));
  EXPECT_FALSE(again.resume(0).ended());

  other->Send(again.handle(), {.first_index = 2, .ids = Bytes("cd"), .finish = true});
  const Answer rest = call->Rest();
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.text(), "cd");
  const iv1::ResponseEnd end = rest.messages.back().end();
  EXPECT_EQ(end.usage().completion_tokens(), 4u);
  EXPECT_EQ(end.usage().cached_tokens(), 1u);
  EXPECT_EQ(end.serving().attempts(), 2u);
  EXPECT_EQ(end.serving().decode_worker(), other->address());
  ASSERT_EQ(end.serving().failed_attempts_size(), 1);
  EXPECT_EQ(end.serving().failed_attempts(0).decode_worker(), one->address());
  EXPECT_EQ(end.serving().failed_attempts(0).completion_tokens(), 2u);
  EXPECT_THAT(end.serving().failed_attempts(0).reason(), HasSubstr("was lost"));
  const std::string metrics = router_->router()->MetricsText();
  EXPECT_THAT(metrics, HasSubstr("tandem_failed_attempts_total{reason=\"lost\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("tandem_resumed_requests_total 1"));
}

TEST_F(FailoverTest, AStopStringMayLieAcrossTheFailure) {
  iv1::GenerateRequest request = TextRequest("Hi", 20);
  request.mutable_stopping()->add_stop("bEND");
  Add(wv1::ROLE_UNIFIED);
  Add(wv1::ROLE_UNIFIED);
  Start();
  auto call = router_->Generate(request);
  const auto [one, submit] = Next();
  one->Send(submit.handle(), {.first_index = 0, .ids = Bytes("abE")});
  EXPECT_EQ(call->Next().outputs(0).text(), "a");
  one->EndSession();
  const auto [other, again] = Next();
  EXPECT_THAT(again.resume(0).token_ids(), ElementsAreArray(Bytes("abE")));
  other->Send(again.handle(), {.first_index = 3, .ids = Bytes("NDx")});
  const Answer rest = call->Rest();
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.text(), "");
  EXPECT_EQ(rest.Joined().outputs(0).finish().stop(), "bEND");
}

TEST_F(FailoverTest, WithOneWorkerLeftItDoesBothJobs) {
  for (const bool decode_dies : {true, false}) {
    workers_.clear();
    FakeWorker* prefill = Add(wv1::ROLE_PREFILL);
    FakeWorker* decode = Add(wv1::ROLE_DECODE);
    Start();
    auto call = router_->Generate(TextRequest("Hi", 9));
    const wv1::Submit d = decode->NextSubmit();
    const wv1::Submit p = prefill->NextSubmit();
    prefill->Send(p.handle(), {.first_index = 0, .ids = Bytes("x")});
    EXPECT_EQ(call->Next().outputs(0).text(), "x");
    FakeWorker* dead = decode_dies ? decode : prefill;
    FakeWorker* left = decode_dies ? prefill : decode;
    dead->Stop();
    const wv1::Submit again = left->NextSubmit();
    EXPECT_EQ(again.role(), wv1::ROLE_UNIFIED);
    EXPECT_THAT(again.resume(0).token_ids(), ElementsAreArray(Bytes("x")));
    EXPECT_TRUE(left->AwaitCancel(decode_dies ? p.handle() : d.handle()));
    left->Send(again.handle(), {.first_index = 1, .ids = Bytes("yz"), .finish = true});
    const Answer rest = call->Rest();
    ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
    EXPECT_EQ(rest.text(), "yz");
    router_.reset();
  }
}

TEST_F(FailoverTest, AHandoffThatFailsIsNotTriedAgainWithTheWorkerThatIsBlamed) {
  FakeWorker* prefill = Add(wv1::ROLE_PREFILL);
  FakeWorker* decode = Add(wv1::ROLE_DECODE);
  Start();
  auto call = router_->Generate(TextRequest("Hi", 9));
  const wv1::Submit d = decode->NextSubmit();
  prefill->SendError(prefill->NextSubmit().handle(), 14, "the link broke");
  EXPECT_TRUE(decode->AwaitCancel(d.handle()));
  const wv1::Submit whole = prefill->NextSubmit();
  EXPECT_EQ(whole.role(), wv1::ROLE_UNIFIED);
  EXPECT_EQ(whole.resume_size(), 0) << "the client has no token yet";
  prefill->SendError(whole.handle(), 15, "KV is damaged");
  const wv1::Submit third = decode->NextSubmit();
  EXPECT_EQ(third.role(), wv1::ROLE_UNIFIED);
  EXPECT_EQ(third.attempt(), 3u);
  decode->Send(third.handle(), {.first_index = 0, .ids = Bytes("ok"), .finish = true});
  EXPECT_EQ(call->Rest().text(), "ok");
}

TEST_F(FailoverTest, AfterTwoWorkersCouldNotLinkOneDoesBothJobsForThisRequestAndTheNext) {
  FakeWorker* prefill = Add(wv1::ROLE_PREFILL);
  FakeWorker* decode = Add(wv1::ROLE_DECODE);
  Start();
  auto call = router_->Generate(TextRequest("Hi", 9));
  const wv1::Submit d = decode->NextSubmit();
  prefill->SendError(prefill->NextSubmit().handle(), 9, "KV layouts differ in block_tokens");
  EXPECT_TRUE(decode->AwaitCancel(d.handle()));
  const auto [one, whole] = Next();
  EXPECT_EQ(whole.role(), wv1::ROLE_UNIFIED);
  EXPECT_EQ(whole.attempt(), 2u);
  one->Send(whole.handle(), {.ids = Bytes("ok"), .finish = true});
  EXPECT_EQ(call->Rest().text(), "ok");
  prefill->AnswerAll("next");
  decode->AnswerAll("next");
  const Answer next = router_->GenerateAll(TextRequest("Ho", 9));
  EXPECT_EQ(next.messages.back().end().serving().prefill_worker(),
            next.messages.back().end().serving().decode_worker())
      << "the pair was taken again";
}

TEST_F(FailoverTest, AWorkersComplaintAboutWhatIsResumedIsNotTheClientsFault) {
  Add(wv1::ROLE_UNIFIED);
  Add(wv1::ROLE_UNIFIED);
  Start();
  auto call = router_->Generate(TextRequest("Hi", 9));
  const auto [one, submit] = Next();
  one->Send(submit.handle(), {.ids = Bytes("a")});
  call->Next();
  one->EndSession();
  const auto [other, again] = Next();
  other->Refuse(again.handle(), 3, "resume[0].token_ids: wrong");
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(ReasonOf(status), "INTERNAL");
}

TEST_F(FailoverTest, AFullWorkersRefusalSendsTheRequestToAnotherAndThenToItsClient) {
  Add(wv1::ROLE_UNIFIED);
  Add(wv1::ROLE_UNIFIED);
  Start({"failover.wait=1h"});
  auto call = router_->Generate(TextRequest("Hi", 9));
  const auto [one, first] = Next();
  one->Refuse(first.handle(), 14, "the queue is full");
  const auto [other, second] = Next();
  EXPECT_NE(other, one);
  other->Refuse(second.handle(), 14, "this queue is full too");
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("this queue is full too"));
}

TEST_F(FailoverTest, AWorkersSuccessorIsWaitedFor) {
  FakeWorker* one = Add(wv1::ROLE_UNIFIED);
  Start();
  auto call = router_->Generate(TextRequest("Hi", 9));
  wv1::Submit submit = one->NextSubmit();
  one->Send(submit.handle(), {.first_index = 0, .ids = Bytes("a")});
  EXPECT_EQ(call->Next().outputs(0).text(), "a");
  one->EndSession();  // and is connected to again
  submit = one->NextSubmit();
  EXPECT_THAT(submit.resume(0).token_ids(), ElementsAreArray(Bytes("a")));
  one->RefuseAsDraining(submit.handle());
  submit = one->NextSubmit();
  EXPECT_EQ(submit.attempt(), 3u);
  one->Send(submit.handle(), {.first_index = 1, .ids = Bytes("b"), .finish = true});
  EXPECT_EQ(call->Rest().text(), "b");
}

TEST_F(FailoverTest, ARequestThatComesWhileAllWorkersAreAwayWaitsForOne) {
  FakeWorker* one = Add(wv1::ROLE_UNIFIED);
  Start();
  wv1::Load load;
  load.set_draining(true);
  one->SendLoad(load);
  router_->AwaitWorkers(0);
  auto call = router_->Generate(TextRequest("Hi", 9));
  EXPECT_TRUE(router_->Await([&] {
    return router_->router()->MetricsText().find("tandem_requests_inflight 1") != std::string::npos;
  }));
  one->AnswerAll("here");
  one->EndSession();  // its successor
  const Answer answer = call->Rest();
  EXPECT_EQ(answer.text(), "here") << answer.status.error_message();
  EXPECT_EQ(answer.messages.back().end().serving().attempts(), 1u);
}

TEST_F(FailoverTest, WithoutASuccessorInTimeTheFailureIsTheRequestsEnd) {
  FakeWorker* one = Add(wv1::ROLE_UNIFIED);
  Start({"failover.wait=300ms"});
  auto call = router_->Generate(TextRequest("Hi", 9));
  one->NextSubmit();
  one->Stop();
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "WORKER_LOST");
  EXPECT_THAT(status.error_message(), HasSubstr(one->address()));
}

TEST_F(FailoverTest, ARequestThatThreeWorkersDieOfIsQuarantined) {
  for (int i = 0; i < 4; ++i) Add(wv1::ROLE_UNIFIED);
  Start();
  auto call = router_->Generate(TextRequest("Hi", 9));
  std::string last;
  for (int i = 0; i < 3; ++i) {
    const auto [worker, submit] = Next();
    worker->Accept(submit.handle());
    worker->Stop();
    last = worker->address();
  }
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(status), "REQUEST_QUARANTINED");
  EXPECT_THAT(status.error_message(), HasSubstr(last));
  EXPECT_THAT(router_->router()->MetricsText(), HasSubstr("tandem_quarantined_requests_total 1"));
}

TEST_F(FailoverTest, AConnectionThatBreaksAgainAndAgainKillsNobody) {
  FakeWorker* one = Add(wv1::ROLE_UNIFIED);
  Start();
  auto call = router_->Generate(TextRequest("Hi", 9));
  for (int i = 0; i < 3; ++i) {
    one->Accept(one->NextSubmit().handle());
    one->EndSession();  // and is connected to again, the same process
  }
  one->Send(one->NextSubmit().handle(), {.ids = Bytes("ok"), .finish = true});
  const Answer answer = call->Rest();
  EXPECT_EQ(answer.text(), "ok") << answer.status.error_message();
  EXPECT_EQ(answer.messages.back().end().serving().attempts(), 4u);
}

TEST_F(FailoverTest, WorkersThatStopAndCutARequestOffAgainAndAgainHaveNotDiedOfIt) {
  FakeWorker* one = Add(wv1::ROLE_UNIFIED);
  Start();
  auto call = router_->Generate(TextRequest("Hi", 9));
  for (int i = 0; i < 3; ++i) {
    one->Accept(one->NextSubmit().handle());
    wv1::Load load;
    load.set_draining(true);
    one->SendLoad(load);
    router_->AwaitWorkers(0);
    one->EndSession();  // and its successor is connected to
  }
  one->Send(one->NextSubmit().handle(), {.ids = Bytes("ok"), .finish = true});
  const Answer answer = call->Rest();
  EXPECT_EQ(answer.text(), "ok") << answer.status.error_message();
  EXPECT_THAT(router_->router()->MetricsText(),
              HasSubstr("tandem_failed_attempts_total{reason=\"draining\"} 3"));
}

TEST_F(FailoverTest, OutputsThatHaveEndedAreNotRunAgain) {
  Add(wv1::ROLE_UNIFIED);
  Add(wv1::ROLE_UNIFIED);
  Start();
  iv1::GenerateRequest request = TextRequest("Hi", 9);
  request.mutable_sampling()->set_n(3);
  auto call = router_->Generate(request);
  const auto [one, submit] = Next();
  one->Send(submit.handle(), {.output = 0, .ids = Bytes("a")});
  one->Send(submit.handle(), {.output = 1, .ids = Bytes("b"), .finish = true});
  std::string read;
  while (read.size() < 2) {
    const iv1::GenerateResponse message = call->Next();
    for (const iv1::OutputDelta& delta : message.outputs()) read += delta.text();
  }
  one->EndSession();
  const auto [other, again] = Next();
  ASSERT_EQ(again.resume_size(), 2);
  EXPECT_FALSE(again.resume(0).ended());
  EXPECT_THAT(again.resume(0).token_ids(), ElementsAreArray(Bytes("a")));
  EXPECT_EQ(again.resume(1).output_index(), 1u);
  EXPECT_TRUE(again.resume(1).ended());
  other->Send(again.handle(), {.output = 2, .ids = Bytes("c"), .finish = true});
  other->Send(again.handle(), {.output = 0, .first_index = 1, .ids = Bytes("d"), .finish = true});
  const Answer rest = call->Rest();
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.Joined().outputs(0).text(), "d");
  EXPECT_EQ(rest.Joined().outputs(2).text(), "c");
  EXPECT_EQ(rest.messages.back().end().usage().completion_tokens(), 4u);
}

TEST_F(FailoverTest, OnlyAWorkerOfTheSameArithmeticGoesOn) {
  Add(FakeWorker::Options{.kv_abi = "abi"});
  Add(FakeWorker::Options{.kv_abi = "another"});
  Start({"failover.wait=300ms"});
  auto call = router_->Generate(TextRequest("Hi", 9));
  const auto [one, submit] = Next();
  one->Send(submit.handle(), {.ids = Bytes("a")});
  call->Next();
  one->Stop();
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(ReasonOf(status), "WORKER_LOST");
  FakeWorker* stranger = workers_[workers_[0].get() == one ? 1 : 0].get();
  stranger->AnswerAll("new");
  EXPECT_EQ(router_->GenerateAll(TextRequest("Hi", 9)).text(), "new") << "it serves others";
}

TEST_F(FailoverTest, TokensWhoseLogprobsTheClientLacksAreComputedAgain) {
  const auto [call, prefill, decode, d] = BeginSplitWithLogprobs();
  decode->Send(d.handle(), {.first_index = 0, .ids = Bytes("x")});
  decode->Send(d.handle(), {.first_index = 1, .ids = Bytes("y"), .logprobs = {-2.0f}});
  AwaitHeard(decode);
  prefill->Stop();
  const wv1::Submit again = decode->NextSubmit();
  EXPECT_EQ(again.resume_size(), 0);
  decode->Send(
      again.handle(),
      {.first_index = 0, .ids = Bytes("xyz"), .logprobs = {-1.0f, -2.0f, -3.0f}, .finish = true});
  const Answer answer = call->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text(), "xyz");
  EXPECT_EQ(answer.Joined().outputs(0).logprobs(0).token().logprob(), -1.0f);
}

TEST_F(FailoverTest, ATokenThatTheNextWorkerComputesDifferentlyRaisesTheAlarm) {
  const auto [call, prefill, decode, d] = BeginSplitWithLogprobs();
  decode->Send(d.handle(), {.first_index = 0, .ids = Bytes("x")});
  AwaitHeard(decode);
  prefill->Stop();
  const wv1::Submit again = decode->NextSubmit();
  decode->Send(again.handle(), {.first_index = 0, .ids = Bytes("q"), .logprobs = {-1.0f}});
  EXPECT_EQ(call->Rest().status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(router_->router()->MetricsText(), HasSubstr("tandem_token_conflicts_total 1"));
}

TEST_F(FailoverTest, APausedRequestIsPausedAtItsNextWorkerToo) {
  constexpr uint32_t kContext = 200'000;
  const FakeWorker::Options options = {.max_context = kContext, .blocks = kContext / 16};
  Add(options);
  Add(options);
  Start({"limits.client_buffer_bytes=4KiB"}, /*stream_window=*/1024);
  auto call = router_->Generate(TextRequest("Hi", kContext - 10));
  const auto [one, submit] = Next();
  uint32_t sent = 0;
  while (!one->paused(submit.handle()) && sent < kContext - 1000) {
    one->Send(submit.handle(), {.first_index = sent, .ids = std::vector<int32_t>(100, 'a')});
    sent += 100;
  }
  ASSERT_TRUE(one->AwaitPause(submit.handle()));
  one->EndSession();
  const auto [other, again] = Next();
  EXPECT_TRUE(other->AwaitPause(again.handle()));
  const uint32_t resumed = again.resume(0).token_ids_size();
  other->Send(again.handle(), {.first_index = resumed, .ids = Bytes("b"), .finish = true});
  EXPECT_EQ(call->Rest().text(), std::string(resumed, 'a') + "b");
}

TEST_F(FailoverTest, AClientThatLeavesWhileItsRequestWaitsEndsIt) {
  FakeWorker* one = Add(wv1::ROLE_UNIFIED);
  Start({"failover.wait=1h"});
  auto call = router_->Generate(TextRequest("Hi", 9));
  one->NextSubmit();
  one->Stop();
  router_->AwaitWorkers(0);
  call->Cancel();
  EXPECT_EQ(call->Rest().status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(router_->Await([&] {
    return router_->router()->MetricsText().find("tandem_requests_inflight 0") != std::string::npos;
  }));
}

}  // namespace
}  // namespace tandem
