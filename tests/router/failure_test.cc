// Requests that go wrong for good, through a whole router with fake workers that tries each once:
// it ends once, typed, and nothing of it goes on running. failover_test.cc has further attempts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "base/grpc_status.h"
#include "tests/router/router_fixture.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

using ::testing::AllOf;
using ::testing::HasSubstr;

bool HasRetryInfo(const grpc::Status& status) {
  return DetailOf<google::rpc::RetryInfo>(FromGrpcStatus(status)).has_value();
}

class FailureTest : public ::testing::Test {
 protected:
  void StartUnified(std::vector<std::string> sets = {}, const Clock* clock = RealClock()) {
    one_ = std::make_unique<FakeWorker>(FakeWorker::Options());
    StartRouter({one_->address()}, std::move(sets), clock);
    router_->AwaitWorkers(1);
  }
  void StartSplit(std::vector<std::string> sets = {}) {
    prefill_ = std::make_unique<FakeWorker>(FakeWorker::Options{.role = wv1::ROLE_PREFILL});
    decode_ = std::make_unique<FakeWorker>(FakeWorker::Options{.role = wv1::ROLE_DECODE});
    StartRouter({prefill_->address(), decode_->address()}, std::move(sets), RealClock());
    router_->AwaitWorkers(2);
  }
  void StartRouter(std::vector<std::string> workers, std::vector<std::string> sets,
                   const Clock* clock) {
    sets.insert(sets.end(), {"failover.max_attempts=1", "failover.wait=0s"});
    router_ = std::make_unique<RouterFixture>(RouterFixture::Options{
        .workers = std::move(workers), .sets = std::move(sets), .clock = clock});
  }

  // A request that its workers have, and that runs until the test says otherwise.
  struct Running {
    std::unique_ptr<Call> call;
    wv1::Submit submit;
  };
  struct RunningSplit {
    std::unique_ptr<Call> call;
    wv1::Submit decode, prefill;
  };
  Running RunUnified(std::vector<std::string> sets = {}) {
    StartUnified(std::move(sets));
    return Run(TextRequest("Hi"));
  }
  Running Run(const iv1::GenerateRequest& request) {
    auto call = router_->Generate(request);
    return {std::move(call), one_->NextSubmit()};
  }
  RunningSplit RunSplit() {
    StartSplit();
    auto call = router_->Generate(TextRequest("Hi"));
    return {std::move(call), decode_->NextSubmit(), prefill_->NextSubmit()};
  }
  // The same, after its client has got "x" from the prefill worker.
  RunningSplit RunSplitToTheFirstToken() {
    RunningSplit running = RunSplit();
    prefill_->Send(running.prefill.handle(), {.first_index = 0, .ids = Bytes("x")});
    running.call->Next();
    return running;
  }

  // The decode worker's error, heard by the router: what it says next on its session is known.
  void FailDecode(uint64_t handle, int code, const std::string& message) {
    decode_->SendError(handle, code, message);
    wv1::Load load;
    load.set_draining(true);
    decode_->SendLoad(load);
    ASSERT_TRUE(router_->Await([&] {
      return router_->router()->MetricsText().find(
                 "tandem_workers{role=\"decode\",state=\"draining\"} 1") != std::string::npos;
    }));
  }

  FakeClock clock_;  // outlives the router
  std::unique_ptr<FakeWorker> one_, prefill_, decode_;
  std::unique_ptr<RouterFixture> router_;
};

TEST_F(FailureTest, ACancelledCallIsCancelledAtBothWorkers) {
  const auto [call, d, p] = RunSplitToTheFirstToken();
  call->Cancel();
  EXPECT_EQ(call->Rest().status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(decode_->AwaitCancel(d.handle()));
  EXPECT_TRUE(prefill_->AwaitCancel(p.handle()));
}

TEST_F(FailureTest, APassedDeadlineCancelsTheWorkAndIsSentAlongAsABudget) {
  StartUnified();
  auto call = router_->Generate(TextRequest("Hi"), absl::Milliseconds(300));
  const wv1::Submit submit = one_->NextSubmit();
  EXPECT_GT(submit.budget_ms(), 0u);
  EXPECT_LE(submit.budget_ms(), 1000u);  // gRPC rounds deadlines up
  EXPECT_EQ(call->Rest().status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(one_->AwaitCancel(submit.handle()));
}

TEST_F(FailureTest, ALostWorkerEndsItsRequestsAsUnavailableWithAReason) {
  const auto [call, d, p] = RunSplitToTheFirstToken();
  decode_->EndSession();
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "WORKER_LOST");
  EXPECT_TRUE(HasRetryInfo(status));
  EXPECT_THAT(status.error_message(), HasSubstr(decode_->address()));
  EXPECT_TRUE(prefill_->AwaitCancel(p.handle()));
}

TEST_F(FailureTest, APrefillWorkerThatIsLostAfterItsHandoffIsNotMissed) {
  const auto [call, d, p] = RunSplitToTheFirstToken();
  decode_->Send(d.handle(), {.first_index = 0, .ids = Bytes("xy")});
  EXPECT_EQ(call->Next().outputs(0).text(), "y");
  prefill_->EndSession();
  decode_->Send(d.handle(), {.first_index = 2, .ids = Bytes("z"), .finish = true});
  const Answer rest = call->Rest();
  EXPECT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.text(), "z");
}

TEST_F(FailureTest, AWorkerWithoutHeartbeatsIsTakenForDeadAndIsBackWhenItSpeaksAgain) {
  StartUnified({"heartbeat.interval=10s", "heartbeat.missed=3"}, &clock_);
  auto call = router_->Generate(TextRequest("Hi"));
  one_->NextSubmit();
  one_->SetHeartbeats(false);
  {
    const std::jthread time([this](const std::stop_token& stop) {
      for (; !stop.stop_requested(); std::this_thread::yield())
        clock_.Advance(absl::Milliseconds(20));
    });
    const grpc::Status status = call->Rest().status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(ReasonOf(status), "WORKER_LOST");
    EXPECT_THAT(status.error_message(), HasSubstr("no heartbeat for 30s"));
  }
  one_->SetHeartbeats(true);
  one_->AnswerAll("back");
  EXPECT_TRUE(router_->Await([&] {
    clock_.Advance(absl::Milliseconds(100));  // past the pause before the next connection
    absl::SleepFor(absl::Milliseconds(5));    // 30 s must not pass between two heartbeats
    return router_->GenerateAll(TextRequest("Hi")).text() == "back";
  }));
}

TEST_F(FailureTest, AWorkerWhoseEngineIsStuckLosesItsRequestsAndGetsNoneUntilItMoves) {
  const auto [call, submit] = RunUnified({"heartbeat.stuck_after=10s"});
  one_->SetEngineAge(absl::Milliseconds(9999));
  one_->Send(submit.handle(), {.first_index = 0, .ids = Bytes("x")});
  call->Next();  // not stuck yet
  one_->SetEngineAge(absl::Seconds(10));
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "WORKER_STUCK");
  EXPECT_TRUE(HasRetryInfo(status));
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr(one_->address()), HasSubstr("at step 42 for 10s")));
  EXPECT_TRUE(one_->AwaitCancel(submit.handle()));
  const grpc::Status refused = router_->GenerateAll(TextRequest("Hi")).status;
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(refused.error_message(), HasSubstr("stuck, the engine has been at step 42"));
  EXPECT_TRUE(router_->Await([&] {
    return router_->router()->MetricsText().find(
               "tandem_workers{role=\"unified\",state=\"stuck\"} 1") != std::string::npos;
  }));
  one_->AnswerAll("back");
  one_->SetEngineAge(absl::ZeroDuration());
  EXPECT_TRUE(
      router_->Await([&] { return router_->GenerateAll(TextRequest("Hi")).text() == "back"; }));
}

TEST_F(FailureTest, WithoutALimitNoEngineIsTakenForStuck) {
  StartUnified({"heartbeat.stuck_after=0s"});
  one_->SetEngineAge(absl::Hours(1000));
  one_->AnswerAll("well");  // comes after the heartbeat on the same stream
  EXPECT_EQ(router_->GenerateAll(TextRequest("Hi")).text(), "well");
}

TEST_F(FailureTest, AnIdleRouterSaysWhoItIsAndThenSomethingEverySecond) {
  StartUnified({}, &clock_);
  EXPECT_EQ(one_->hello().target(), one_->address());
  EXPECT_NE(one_->hello().incarnation(), 0u);
  for (int second = 1; second <= 4; ++second) {
    EXPECT_TRUE(one_->AwaitPings(second));
    EXPECT_EQ(one_->pings(), second);
    clock_.Advance(absl::Seconds(1));
  }
}

TEST_F(FailureTest, TwoReportsOfOneIndexThatDifferEndTheRequestAndRaiseAnAlarm) {
  const auto [call, d, p] = RunSplitToTheFirstToken();
  decode_->Send(d.handle(), {.first_index = 0, .ids = Bytes("y")});
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(ReasonOf(status), "INTERNAL");
  EXPECT_THAT(router_->router()->MetricsText(), HasSubstr("tandem_token_conflicts_total 1"));
  EXPECT_TRUE(decode_->AwaitCancel(d.handle()));
  EXPECT_TRUE(prefill_->AwaitCancel(p.handle()));
}

TEST_F(FailureTest, ARefusalReachesTheClientWithTheWorkersNameAndRetryInfo) {
  const auto [call, submit] = RunUnified();
  one_->Refuse(submit.handle(), 14, "the queue is full");
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr(one_->address()), HasSubstr("queue is full")));
  EXPECT_TRUE(HasRetryInfo(status));
}

TEST_F(FailureTest, AFailedHandoffEndsTheRequestAtTheDecodeWorkerToo) {
  const auto [call, d, p] = RunSplit();
  prefill_->SendError(p.handle(), 14, "the decode worker has no room");
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("no room"));
  EXPECT_TRUE(decode_->AwaitCancel(d.handle()));
  EXPECT_FALSE(prefill_->cancelled(p.handle()));  // it has ended there by itself
}

// To the decode worker every end at the prefill worker looks alike.
constexpr char kPeerGaveUp[] = "handoff from the prefill worker: the peer gave up";

TEST_F(FailureTest, ATimeLimitDuringThePromptIsOneThoughTheDecodeWorkerSaysAborted) {
  const auto [call, d, p] = RunSplit();
  FailDecode(d.handle(), 10, kPeerGaveUp);
  prefill_->Send(p.handle(), {.finish = true, .reason = iv1::FINISH_REASON_TIME_LIMIT});
  const Answer answer = call->Rest();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.Joined().outputs(0).finish().reason(), iv1::FINISH_REASON_TIME_LIMIT);
}

TEST_F(FailureTest, AnErrorOfThePrefillWorkerIsToldThoughTheDecodeWorkerSaysAborted) {
  const auto [call, d, p] = RunSplit();
  FailDecode(d.handle(), 10, kPeerGaveUp);
  prefill_->SendError(p.handle(), 3, "guided.choice: none is allowed");
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr(prefill_->address()), HasSubstr("none is allowed")));
}

TEST_F(FailureTest, AHandoffThatOnlyTheDecodeWorkerSawFailEndsTheRequest) {
  const auto [call, d, p] = RunSplit();
  FailDecode(d.handle(), 10, kPeerGaveUp);
  prefill_->Send(p.handle(), {.first_index = 0, .ids = Bytes("x")});
  prefill_->SendHandoffDone(p.handle(), 1024);
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "HANDOFF_ABORTED");
}

TEST_F(FailureTest, APrefillWorkerThatIsLostCannotSayWhyItGaveUp) {
  const auto [call, d, p] = RunSplit();
  FailDecode(d.handle(), 10, kPeerGaveUp);
  prefill_->EndSession();
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "WORKER_LOST");
}

TEST_F(FailureTest, AnotherErrorOfTheDecodeWorkerWaitsForNobody) {
  const auto [call, d, p] = RunSplit();
  decode_->SendError(d.handle(), 14, "the link broke");
  EXPECT_EQ(call->Rest().status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(prefill_->AwaitCancel(p.handle()));
}

TEST_F(FailureTest, AHandoffThatWasGivenUpOrArrivedDamagedIsWorthAnotherTry) {
  StartUnified();
  for (const auto& [code, reason] : {std::pair(10, "HANDOFF_ABORTED"), {15, "KV_DAMAGED"}}) {
    const auto [call, submit] = Run(TextRequest("Hi"));
    one_->SendError(submit.handle(), code, "the attempt is over");
    const grpc::Status status = call->Rest().status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(ReasonOf(status), reason);
    EXPECT_TRUE(HasRetryInfo(status));
    EXPECT_THAT(status.error_message(), HasSubstr("the attempt is over"));
  }
}

TEST_F(FailureTest, TextOfOurOwnFaultsStaysInTheLog) {
  const auto [call, submit] = RunUnified();
  one_->SendError(submit.handle(), 13, "a secret of the machine room");
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message().find("secret"), std::string::npos);
}

TEST_F(FailureTest, WithoutAWorkerTheErrorSaysWhatWasTried) {
  auto gone = std::make_unique<FakeWorker>(FakeWorker::Options());
  const std::string address = gone->address();
  gone.reset();
  StartRouter({address}, {}, RealClock());
  const grpc::Status status = router_->GenerateAll(TextRequest("Hi")).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "NO_WORKER");
  EXPECT_THAT(status.error_message(), HasSubstr(address));
  EXPECT_TRUE(HasRetryInfo(status));
}

TEST_F(FailureTest, AModelWhoseWorkersHaveGoneIsUnavailableAndNotUnknown) {
  StartUnified();
  one_->Stop();
  router_->AwaitWorkers(0);
  const grpc::Status status = router_->GenerateAll(TextRequest("Hi")).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("bytes"), HasSubstr(one_->address()), HasSubstr("lost")));
}

TEST_F(FailureTest, AnUnknownModelIsNotFoundAndTheServedOnesAreNamed) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("Hi");
  request.set_model("nonesuch");
  const grpc::Status status = router_->GenerateAll(request).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("nonesuch"), HasSubstr("served are: bytes")));
}

TEST_F(FailureTest, ARunningRequestsIdCannotBeUsedTwice) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("Hi");
  request.set_request_id("mine");
  const auto [call, submit] = Run(request);
  const grpc::Status status = router_->GenerateAll(request).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(status.error_message(), HasSubstr("mine"));
  one_->Send(submit.handle(), {.first_index = 0, .ids = Bytes("x"), .finish = true});
  EXPECT_TRUE(call->Rest().status.ok());  // the first one is none the worse for it
  one_->AnswerAll("x");
  EXPECT_TRUE(router_->GenerateAll(request).status.ok());  // the id is free again
}

TEST_F(FailureTest, ARequestWithAnIdThatCannotBeUsedIsAnsweredUnderAFreshOne) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("Hi");
  request.set_request_id(std::string(1 << 20, 'x'));
  const absl::Status status = FromGrpcStatus(router_->GenerateAll(request).status);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("request_id")));
  EXPECT_TRUE(DetailOf<google::rpc::BadRequest>(status));
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  ASSERT_TRUE(info);
  const std::string& id = info->metadata().at("request_id");
  EXPECT_TRUE(!id.empty() && id.size() <= 128) << id.size();
}

TEST_F(FailureTest, RequestsThatAreTooLargeTogetherAreRefused) {
  StartUnified({"limits.max_inflight_bytes=1MiB"});
  iv1::GenerateRequest large = TextRequest("Hi", 1);
  large.set_text(std::string(1 << 20, 'x'));
  large.set_truncate_prompt_tokens(10);
  auto call = router_->Generate(large);  // alone, it may
  const wv1::Submit submit = one_->NextSubmit();
  const grpc::Status status = router_->GenerateAll(TextRequest("Hi")).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "ROUTER_FULL");
  EXPECT_TRUE(HasRetryInfo(status));
  EXPECT_THAT(status.error_message(), HasSubstr("at most 1048576"));
  one_->Send(submit.handle(), {.first_index = 0, .ids = Bytes("x"), .finish = true});
  EXPECT_TRUE(call->Rest().status.ok());
  one_->AnswerAll("y");
  EXPECT_TRUE(router_->Await([&] { return router_->GenerateAll(TextRequest("Hi")).status.ok(); }));
}

TEST_F(FailureTest, OneRequestTooManyIsRefused) {
  const auto [call, submit] = RunUnified({"limits.max_inflight=1"});
  const grpc::Status status = router_->GenerateAll(TextRequest("Hi")).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "ROUTER_FULL");
  EXPECT_TRUE(HasRetryInfo(status));
}

TEST_F(FailureTest, APromptThatIsTooLongNamesTheLimitAndItsLength) {
  StartUnified({"limits.max_prompt_bytes=8KiB"});
  const grpc::Status tokens = router_->GenerateAll(TextRequest(std::string(5000, 'a'))).status;
  EXPECT_EQ(tokens.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(tokens.error_message(), AllOf(HasSubstr("5000 tokens"), HasSubstr("4096")));
  const grpc::Status bytes = router_->GenerateAll(TextRequest(std::string(9000, 'a'))).status;
  EXPECT_EQ(bytes.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(bytes.error_message(), AllOf(HasSubstr("9000 bytes"), HasSubstr("8192")));
}

TEST_F(FailureTest, ATokenIdOutsideOfTheVocabularyIsNamed) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("");
  request.mutable_token_ids()->add_ids(1);
  request.mutable_token_ids()->add_ids(264);
  const grpc::Status status = router_->GenerateAll(request).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const auto bad = DetailOf<google::rpc::BadRequest>(FromGrpcStatus(status));
  ASSERT_TRUE(bad.has_value());
  EXPECT_EQ(bad->field_violations(0).field(), "token_ids.ids[1]");
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("264"), HasSubstr("0 to 263")));
}

TEST_F(FailureTest, ANeedThatNoWorkerCanEverMeetIsInvalid) {
  one_ = std::make_unique<FakeWorker>(FakeWorker::Options{.blocks = 4});  // 64 tokens
  StartRouter({one_->address()}, {}, RealClock());
  router_->AwaitWorkers(1);
  const grpc::Status status = router_->GenerateAll(TextRequest("Hi", 63)).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("65 tokens"), HasSubstr("room for 64")));
}

TEST_F(FailureTest, AStoppingRouterLetsRequestsFinishAndTakesNoNewOnes) {
  StartUnified();
  iv1::GenerateRequest request = TextRequest("Hi");
  request.set_request_id("mine");
  const auto [call, submit] = Run(request);
  const std::jthread drain([this] { router_->router()->Drain(); });
  EXPECT_TRUE(router_->Await([&] {  // refused as a duplicate until then
    return ReasonOf(router_->GenerateAll(request).status) == "STOPPING";
  }));
  one_->Send(submit.handle(), {.first_index = 0, .ids = Bytes("x"), .finish = true});
  const Answer answer = call->Rest();
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text(), "x");
}

TEST_F(FailureTest, AStoppingRouterCutsOffWhatDoesNotFinishInTime) {
  const auto [call, submit] = RunUnified({"drain_timeout=0s"});
  const std::jthread drain([this] { router_->router()->Drain(); });
  const grpc::Status status = call->Rest().status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "STOPPING");
  EXPECT_TRUE(one_->AwaitCancelOrEnd(submit.handle()));
}

}  // namespace
}  // namespace tandem
