// The worker's service over a real channel on loopback, with the toy model behind it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/service/session_fixture.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
namespace wv1 = worker::v1;

using Server = SessionServer;
using Router = TestRouter;

TEST(SessionService, HelloThenRequestsAndTheirTokens) {
  Server server;
  Router router(&server);
  router.Hello();
  wv1::SessionResponse first;
  ASSERT_TRUE(router.stream->Read(&first));
  EXPECT_EQ(first.hello().model(), "toy");
  EngineRequest request = ToyRequest(7, 20, 30);
  request.logprobs = 1;
  router.Submit(request);
  EXPECT_EQ(router.Next(wv1::SessionResponse::kAccepted)->accepted().handle(), 7u);
  EXPECT_EQ(router.TokensOf(7), ExpectedAnswer(request).token_ids);
  EXPECT_TRUE(server.AllFree());
}

TEST(SessionService, AResumedRequestGoesOnBehindItsTokensAndTellsNothingAgain) {
  Server server;
  Router router(&server);
  router.Hello();
  EngineRequest request = ToyRequest(7, 20, 30);
  const std::vector<int32_t> all = ExpectedAnswer(request).token_ids;
  request.resume = {{{all.begin(), all.begin() + 11}, false}};
  router.Submit(request);
  EXPECT_THAT(router.TokensOf(7, 11), ElementsAreArray(all.begin() + 11, all.end()));
  EXPECT_TRUE(server.AllFree());
}

TEST(SessionService, AWrongRequestIsRefusedAndTheSessionGoesOn) {
  Server server;
  Router router(&server);
  router.Hello();
  EngineRequest wrong = ToyRequest(1, 4, 4);
  wrong.prompt[2] = ToyModel::kVocab;
  router.Submit(wrong);
  const auto refused = router.Next(wv1::SessionResponse::kRefused);
  EXPECT_EQ(refused->refused().handle(), 1u);
  EXPECT_THAT(FromRpcStatus(refused->refused().status()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prompt_ids[2]")));
  router.Submit(ToyRequest(2, 4, 4));
  EXPECT_EQ(router.TokensOf(2), ExpectedAnswer(ToyRequest(2, 4, 4)).token_ids);
}

TEST(SessionService, ABrokenSessionFreesItsBlocks) {
  Server server({.blocks = 200});
  for (const bool cancel : {true, false}) {
    Router router(&server);
    router.Hello();
    router.Submit(ToyRequest(1, 100, 3000));
    ASSERT_TRUE(router.Next(wv1::SessionResponse::kStep).has_value());
    EXPECT_LT(server.pool->free_blocks(), 200u);
    if (cancel) {
      router.context.TryCancel();
    } else {
      router.stream->WritesDone();
      EXPECT_FALSE(router.Next(wv1::SessionResponse::kPong).has_value());
      EXPECT_THAT(router.Finish(), IsOk());
    }
    const absl::Time start = absl::Now();
    EXPECT_TRUE(server.AllFree());
    EXPECT_LT(absl::Now() - start, absl::Seconds(1));
  }
}

TEST(SessionService, CancelPauseAndResumeReachTheEngine) {
  Server server({.blocks = 200});
  Router router(&server);
  router.Hello();
  router.Submit(ToyRequest(1, 10, 3000));
  ASSERT_TRUE(router.Next(wv1::SessionResponse::kStep).has_value());
  wv1::SessionRequest pause, resume, cancel;
  pause.mutable_pause()->set_handle(1);
  router.stream->Write(pause);
  router.Submit(ToyRequest(2, 4, 4));
  router.TokensOf(2);
  const uint64_t paused_at = router.last_step;
  router.Ping(99);
  EXPECT_EQ(router.Next(wv1::SessionResponse::kPong)->pong().nonce(), 99u);
  const auto beat = router.Next(wv1::SessionResponse::kHeartbeat);
  ASSERT_TRUE(beat.has_value());
  EXPECT_EQ(router.last_step, paused_at) << "the paused request went on";
  EXPECT_LE(beat->heartbeat().step_number(), paused_at) << "a step ran with nothing to run";
  resume.mutable_resume()->set_handle(1);
  router.stream->Write(resume);
  ASSERT_TRUE(router.Next(wv1::SessionResponse::kStep).has_value());
  cancel.mutable_cancel()->set_handle(1);
  router.stream->Write(cancel);
  while (const auto response = router.Next(wv1::SessionResponse::kStep)) {
    const wv1::SequenceStep& step =
        response->step().sequences(response->step().sequences_size() - 1);
    if (!step.has_finish()) continue;
    EXPECT_EQ(step.finish().reason(), inference::v1::FINISH_REASON_CANCELLED);
    break;
  }
  EXPECT_TRUE(server.AllFree());
}

TEST(SessionService, HeartbeatsComeWhileNothingHappens) {
  Server server;
  Router router(&server);
  router.Hello();
  router.Submit(ToyRequest(1, 4, 4));
  router.TokensOf(1);
  for (int i = 0; i < 3; ++i) {
    const auto beat = router.Next(wv1::SessionResponse::kHeartbeat);
    ASSERT_TRUE(beat.has_value());
    EXPECT_EQ(beat->heartbeat().step_number(), 4u) << "one a token";
  }
}

TEST(SessionService, AStreamWithoutAHelloIsEnded) {
  Server server;
  Router router(&server);
  EXPECT_FALSE(router.Next(wv1::SessionResponse::kHello).has_value());
  EXPECT_THAT(router.Finish(),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("no `hello` came")));
}

TEST(SessionService, ARouterThatFallsSilentIsTakenForDeadThoughItsConnectionStands) {
  Server server({.blocks = 200}, {.interval = absl::Milliseconds(500), .missed = 2});
  Router router(&server);
  router.Hello();
  for (int beat = 0; beat < 50; ++beat) {  // of 50 ms: longer than twice the limit
    ASSERT_TRUE(router.Next(wv1::SessionResponse::kHeartbeat).has_value()) << beat;
    router.Ping(beat);
  }
  router.Submit(ToyRequest(1, 100, 3000));
  wv1::SessionRequest pause;  // so that it would never end by itself
  pause.mutable_pause()->set_handle(1);
  router.stream->Write(pause);
  const absl::Time last_word = absl::Now();
  EXPECT_FALSE(router.Next(wv1::SessionResponse::kHello).has_value());  // it reads all the while
  EXPECT_GE(absl::Now() - last_word, absl::Milliseconds(900));
  EXPECT_THAT(router.Finish(), StatusIs(absl::StatusCode::kDeadlineExceeded,
                                        HasSubstr("the router has said nothing for 1s")));
  EXPECT_TRUE(server.AllFree());
}

TEST(SessionService, ARouterOfAVersionThatNeverPingsMayBeSilent) {
  Server server({.blocks = 200}, {.interval = absl::Milliseconds(100), .missed = 2});
  Router router(&server);
  router.Hello(kWorkerProtocolVersion, 77, /*target=*/"");
  for (int beat = 0; beat < 20; ++beat) {  // of 50 ms: five times the limit
    ASSERT_TRUE(router.Next(wv1::SessionResponse::kHeartbeat).has_value()) << beat;
  }
  router.Submit(ToyRequest(1, 4, 4));
  EXPECT_EQ(router.TokensOf(1).size(), 4u);
}

TEST(SessionService, AHelloEndsTheSessionThatTheSameRouterHadByTheSameAddress) {
  Server server({.blocks = 200});
  Router old(&server), other(&server);
  old.Hello(kWorkerProtocolVersion, 77, "worker:1");
  old.Submit(ToyRequest(1, 100, 3000));
  ASSERT_TRUE(old.Next(wv1::SessionResponse::kStep).has_value());
  other.Hello(kWorkerProtocolVersion, 77, "other-name:1");
  ASSERT_TRUE(other.Next(wv1::SessionResponse::kHeartbeat).has_value());
  EXPECT_LT(server.pool->free_blocks(), 200u) << "by another address it may have both";
  other.context.TryCancel();
  (void)other.Finish();
  while (server.sessions.Value() > 1) std::this_thread::yield();
  Router next(&server);
  next.Hello(kWorkerProtocolVersion, 77, "worker:1");
  EXPECT_FALSE(old.Next(wv1::SessionResponse::kHello).has_value());
  EXPECT_THAT(old.Finish(),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("has opened another one")));
  EXPECT_TRUE(server.AllFree());
  ASSERT_TRUE(next.Next(wv1::SessionResponse::kHeartbeat).has_value());
}

TEST(SessionService, AnEndedStreamWhoseRouterDoesNotReadIsCancelled) {
  Server server({.blocks = 600});
  Router slow(&server);
  slow.Hello();
  for (uint64_t handle = 1; handle <= 8; ++handle) {
    EngineRequest request = ToyRequest(handle, 10, 1000);
    request.logprobs = 20;
    slow.Submit(request);
  }
  server.WaitUntilItStands();
  EXPECT_LT(server.pool->free_blocks(), 600u) << "they did not end";
  slow.Hello();  // a breach, while a write is stuck
  while (server.sessions.Value() > 0) std::this_thread::yield();
  EXPECT_TRUE(server.AllFree());
}

TEST(SessionService, StoppingLosesNothingThatWasProduced) {
  Server server({.blocks = 200});
  Router router(&server);
  router.Hello();
  EngineRequest request = ToyRequest(1, 10, 1000);
  request.logprobs = 20;  // more bytes than the stream takes unread
  router.Submit(request);
  ASSERT_TRUE(router.Next(wv1::SessionResponse::kAccepted).has_value());
  while (server.engine->progress().step_number < 1000) std::this_thread::yield();
  ASSERT_TRUE(server.AllFree());  // all of it was produced
  server.service->EndSessions(absl::UnavailableError("the worker is stopping"));
  EXPECT_EQ(router.TokensOf(1), ExpectedAnswer(request).token_ids);
  EXPECT_FALSE(router.Next(wv1::SessionResponse::kPong).has_value());
  EXPECT_THAT(router.Finish(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("stopping")));
}

TEST(SessionService, ErrorsSayWhetherARetryIsSafe) {
  Server server;
  Router router(&server);
  router.Hello();
  const auto retry = [&router](const EngineRequest& request) {
    router.Submit(request);
    const auto refused = router.Next(wv1::SessionResponse::kRefused);
    const absl::Status status = FromRpcStatus(refused->refused().status());
    EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(status).has_value(), absl::IsUnavailable(status));
    return DetailOf<google::rpc::ErrorInfo>(status)->metadata().at("retry");
  };
  EngineRequest wrong = ToyRequest(1, 4, 4);
  wrong.prompt[2] = ToyModel::kVocab;
  EXPECT_EQ(retry(wrong), "unsafe");
  server.engine->Drain();
  while (!server.engine->load().draining) std::this_thread::yield();
  EXPECT_EQ(retry(ToyRequest(2, 4, 4)), "safe");
}

TEST(SessionService, AReassignmentToNowhereBreaksTheProtocol) {
  Server server;
  Router router(&server);
  router.Hello();
  wv1::SessionRequest reassign;
  reassign.mutable_reassign()->set_peer(std::string(513, 'x'));
  router.stream->Write(reassign);
  EXPECT_FALSE(router.Next(wv1::SessionResponse::kPong).has_value());
  EXPECT_THAT(router.Finish(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("reassign.peer has 513")));
}

TEST(SessionService, NothingIsServedBeforeItOpensOrAfterItStops) {
  Server server;
  server.service->EndSessions(absl::UnavailableError("stopping"));
  grpc::ClientContext context;
  const auto reader = server.stub->GetAssets(&context, wv1::GetAssetsRequest());
  wv1::GetAssetsResponse chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_THAT(FromGrpcStatus(reader->Finish()), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(SessionService, ARouterThatDoesNotReadStopsOnlyItself) {
  Server server({.blocks = 600, .max_rows = 64});
  Router slow(&server), quick(&server);
  slow.Hello();
  for (uint64_t handle = 1; handle <= 8; ++handle) {
    EngineRequest request = ToyRequest(handle, 10, 1000);
    request.logprobs = 20;
    slow.Submit(request);
  }
  quick.Hello();
  server.WaitUntilItStands();
  EXPECT_LT(server.pool->free_blocks(), 600u) << "they did not end";
  quick.Submit(ToyRequest(1, 10, 10));
  EXPECT_EQ(quick.TokensOf(1), ExpectedAnswer(ToyRequest(1, 10, 10)).token_ids);
  std::map<uint64_t, size_t> tokens;
  size_t ended = 0;
  while (ended < 8) {
    const auto response = slow.Next(wv1::SessionResponse::kStep);
    ASSERT_TRUE(response.has_value());
    for (const wv1::SequenceStep& step : response->step().sequences()) {
      EXPECT_EQ(step.first_index(), tokens[step.handle()]);
      EXPECT_EQ(step.logprobs_size(), step.token_ids_size());
      tokens[step.handle()] += step.token_ids_size();
      ended += step.has_finish();
    }
  }
  for (const auto& [handle, count] : tokens) EXPECT_EQ(count, 1000u);
}

TEST(SessionService, StreamsThatBreakTheProtocolEndWithTheReason) {
  {  // each has a server to itself: it may take a moment until an ended session makes room
    Server server;
    Router router(&server);
    router.Hello(99);
    EXPECT_FALSE(router.Next(wv1::SessionResponse::kPong).has_value());
    EXPECT_THAT(router.Finish(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          HasSubstr("version 99, this worker 1")));
  }
  {
    Server server;
    Router router(&server);
    router.Submit(ToyRequest(1, 4, 4));
    EXPECT_FALSE(router.Next(wv1::SessionResponse::kPong).has_value());
    EXPECT_THAT(router.Finish(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must be `hello`")));
  }
  {
    Server server;
    Router router(&server);
    router.Hello();
    router.Hello();
    EXPECT_FALSE(router.Next(wv1::SessionResponse::kPong).has_value());
    EXPECT_THAT(router.Finish(), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(SessionService, OneSessionTooManyIsRefusedAndStoppingEndsAll) {
  Server server;
  Router first(&server), second(&server);
  first.Hello();
  second.Hello();
  ASSERT_TRUE(first.Next(wv1::SessionResponse::kHeartbeat).has_value());
  ASSERT_TRUE(second.Next(wv1::SessionResponse::kHeartbeat).has_value());
  Router third(&server);  // only now: streams that begin together arrive in any order
  EXPECT_FALSE(third.Next(wv1::SessionResponse::kHello).has_value());
  EXPECT_THAT(third.Finish(), StatusIs(absl::StatusCode::kUnavailable));
  server.service->EndSessions(absl::UnavailableError("the worker is stopping"));
  EXPECT_FALSE(first.Next(wv1::SessionResponse::kPong).has_value());
  EXPECT_THAT(first.Finish(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("stopping")));
}

TEST(SessionService, DrainRefusesWhatIsNew) {
  Server server;
  Router router(&server);
  router.Hello();
  wv1::SessionRequest drain;
  drain.mutable_drain();
  router.stream->Write(drain);
  while (const auto load = router.Next(wv1::SessionResponse::kLoad)) {
    if (load->load().draining()) break;
  }
  router.Submit(ToyRequest(1, 4, 4));
  const auto refused = router.Next(wv1::SessionResponse::kRefused);
  EXPECT_THAT(FromRpcStatus(refused->refused().status()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
}

TEST(SessionService, AssetsComeInChunksByDigest) {
  Server server;
  const auto get = [&server](std::vector<std::string> digests,
                             std::map<std::string, std::string>* out) {
    grpc::ClientContext context;
    wv1::GetAssetsRequest request;
    for (const std::string& digest : digests) request.add_digests(digest);
    const auto reader = server.stub->GetAssets(&context, request);
    wv1::GetAssetsResponse chunk;
    std::string name;
    while (reader->Read(&chunk)) {
      if (!chunk.name().empty()) name = chunk.name();
      EXPECT_LE(chunk.data().size(), 1u << 20);
      (*out)[name] += chunk.data();
    }
    return FromGrpcStatus(reader->Finish());
  };
  std::map<std::string, std::string> all, one;
  EXPECT_THAT(get({}, &all), IsOk());
  EXPECT_EQ(all.size(), 3u);
  EXPECT_EQ(all["tokenizer.json"].size(), (2u << 20) + 5);
  EXPECT_THAT(get({"d2"}, &one), IsOk());
  EXPECT_EQ(one["LICENSE"], "be nice");
  EXPECT_EQ(one.size(), 1u);
  EXPECT_THAT(get({"nope"}, &one),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no asset nope")));
}

TEST(SessionService, GetWorkerSaysWhatItIsAndHowBusy) {
  Server server;
  grpc::ClientContext context;
  wv1::GetWorkerResponse response;
  EXPECT_TRUE(server.stub->GetWorker(&context, {}, &response).ok());
  EXPECT_EQ(response.info().model(), "toy");
  EXPECT_EQ(response.info().handoff_address(), server.server->address().ToString());
  EXPECT_EQ(response.load().blocks_total(), 64u);
}

TEST(SessionService, OutputsAreToldByTheirIndexAndOneOfThemCanBeCancelled) {
  Server server({.blocks = 400});
  Router router(&server);
  router.Hello();
  EngineRequest request = ToyRequest(1, 10, 1500);
  request.outputs = 3;
  router.Submit(request);
  std::map<uint32_t, std::vector<int32_t>> ids;
  std::map<uint32_t, inference::v1::FinishReason> ends;
  while (ends.size() < 3) {
    const auto response = router.Next(wv1::SessionResponse::kStep);
    ASSERT_TRUE(response.has_value());
    for (const wv1::SequenceStep& step : response->step().sequences()) {
      std::vector<int32_t>& output = ids[step.output_index()];
      EXPECT_EQ(step.first_index(), output.size());
      if (output.empty() && step.output_index() == 1) {
        wv1::SessionRequest cancel;
        cancel.mutable_cancel()->set_handle(1);
        cancel.mutable_cancel()->set_output_index(1);
        router.stream->Write(cancel);
      }
      output.insert(output.end(), step.token_ids().begin(), step.token_ids().end());
      if (step.has_finish()) ends[step.output_index()] = step.finish().reason();
    }
  }
  for (const uint32_t output : {0u, 2u}) {
    EXPECT_EQ(ends[output], inference::v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(ids[output], ExpectedAnswer(request, output).token_ids);
  }
  EXPECT_EQ(ends[1], inference::v1::FINISH_REASON_CANCELLED);
  EXPECT_LT(ids[1].size(), 1500u);
  EXPECT_TRUE(server.AllFree());
}

}  // namespace
}  // namespace tandem
