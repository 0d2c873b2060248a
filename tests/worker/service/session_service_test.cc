// The worker's service over a real channel on loopback, with the toy model behind it.
#include "worker/service/session_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/grpc_server.h"
#include "base/grpc_status.h"
#include "base/metrics.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace wv1 = worker::v1;

struct Server {
  explicit Server(ToyModel::Options model_options = {}) : model(model_options) {
    pool = *BlockPool::Create({.blocks = model_options.blocks});
    engine =
        *Engine::Start(SmallOptions(), {.model = &model, .pool = pool.get(), .clock = RealClock()});
    SessionService::Options options;
    options.parts.engine = engine.get();
    options.parts.clock = RealClock();
    options.parts.limits = {.max_context = 4096,
                            .vocabulary = ToyModel::kVocab,
                            .eos_ids = {},
                            .roles = {Role::kUnified}};
    options.parts.info.set_model("toy");
    options.parts.info.set_protocol_version(kWorkerProtocolVersion);
    options.assets = {{"tokenizer.json", "d1", std::string((2 << 20) + 5, 'x')},
                      {"LICENSE", "d2", "be nice"},
                      {"empty", "d3", ""}};
    options.max_sessions = 2;
    options.heartbeat = absl::Milliseconds(50);
    options.parts.hello_timeout = absl::Seconds(1);
    options.parts.end_timeout = absl::Milliseconds(200);
    options.sessions = sessions;
    service = std::make_unique<SessionService>(std::move(options));
    config::v1::ServerConfig config;
    config.set_listen("127.0.0.1:0");
    server = *GrpcServer::Start(config, {.services = {service.get()}});
    service->Open(server->address().ToString());
    grpc::ChannelArguments args;  // a small window, so that a reader that does not read is felt
    args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    args.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel = grpc::CreateCustomChannel(server->address().ToString(),
                                        grpc::InsecureChannelCredentials(), args);
    stub = wv1::WorkerService::NewStub(channel);
  }
  ~Server() {
    service->EndSessions(absl::UnavailableError("stopping"));
    server->Shutdown(absl::Seconds(1));
    service.reset();
    engine->Stop();
  }
  // Whether all blocks are free within ten seconds.
  bool AllFree() {
    const absl::Time end = absl::Now() + absl::Seconds(10);
    while (pool->free_blocks() != pool->blocks() && absl::Now() < end) std::this_thread::yield();
    return pool->free_blocks() == pool->blocks();
  }

  // Until no step was made in a fifth of a second: sequences that do not end stand still.
  void WaitUntilItStands() {
    const absl::Time end = absl::Now() + absl::Seconds(30);
    uint64_t steps = 0;
    do {
      steps = engine->progress().step_number;
      const absl::Time next = absl::Now() + absl::Milliseconds(200);
      while (absl::Now() < next) std::this_thread::yield();
    } while (engine->progress().step_number != steps && absl::Now() < end);
  }

  MetricRegistry registry;
  const Gauge sessions = registry.NewGauge("sessions", "Open sessions.", {}).With({});
  ToyModel model;
  std::unique_ptr<BlockPool> pool;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<SessionService> service;
  std::unique_ptr<GrpcServer> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<wv1::WorkerService::Stub> stub;
};

// A router, as far as these tests need one.
struct Router {
  explicit Router(Server* server) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    stream = server->stub->Session(&context);
  }
  ~Router() {
    if (!finished) context.TryCancel();
    if (!finished) (void)stream->Finish();
  }
  void Hello(uint32_t version = kWorkerProtocolVersion) {
    wv1::SessionRequest request;
    request.mutable_hello()->set_protocol_version(version);
    stream->Write(request);
  }
  void Submit(const EngineRequest& from) {
    wv1::SessionRequest request;
    wv1::Submit* submit = request.mutable_submit();
    submit->set_handle(from.handle);
    submit->set_request_id(from.request_id);
    submit->set_role(wv1::ROLE_UNIFIED);
    submit->mutable_prompt_ids()->Add(from.prompt.begin(), from.prompt.end());
    submit->mutable_sampling()->set_seed(from.sampling.seed);
    submit->mutable_stopping()->set_max_tokens(from.max_tokens);
    if (from.logprobs) submit->mutable_response()->set_logprobs(*from.logprobs);
    stream->Write(request);
  }
  // The next message of this kind; others are passed over.
  std::optional<wv1::SessionResponse> Next(wv1::SessionResponse::MessageCase kind) {
    wv1::SessionResponse response;
    while (stream->Read(&response)) {
      if (response.message_case() == kind) return response;
    }
    return std::nullopt;
  }
  // All tokens of a request, until it ends.
  std::vector<int32_t> TokensOf(uint64_t handle) {
    std::vector<int32_t> ids;
    while (const auto response = Next(wv1::SessionResponse::kStep)) {
      for (const wv1::SequenceStep& step : response->step().sequences()) {
        if (step.handle() != handle) continue;
        EXPECT_EQ(step.first_index(), ids.size());
        ids.insert(ids.end(), step.token_ids().begin(), step.token_ids().end());
        if (step.has_finish() || step.has_error()) return ids;
      }
    }
    ADD_FAILURE() << "the stream ended first";
    return ids;
  }
  absl::Status Finish() {
    finished = true;
    return FromGrpcStatus(stream->Finish());
  }

  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<wv1::SessionRequest, wv1::SessionResponse>> stream;
  bool finished = false;
};

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
  wv1::SessionRequest pause, ping, resume, cancel;
  pause.mutable_pause()->set_handle(1);
  router.stream->Write(pause);
  router.Submit(ToyRequest(2, 4, 4));
  router.TokensOf(2);
  const uint64_t paused_at = server.engine->progress().step_number;
  ping.mutable_ping()->set_nonce(99);
  router.stream->Write(ping);
  EXPECT_EQ(router.Next(wv1::SessionResponse::kPong)->pong().nonce(), 99u);
  EXPECT_EQ(server.engine->progress().step_number, paused_at) << "nothing else ran";
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
  Server server;
  {
    Router router(&server);
    router.Hello(99);
    EXPECT_FALSE(router.Next(wv1::SessionResponse::kPong).has_value());
    EXPECT_THAT(router.Finish(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          HasSubstr("version 99, this worker 1")));
  }
  {
    Router router(&server);
    router.Submit(ToyRequest(1, 4, 4));
    EXPECT_FALSE(router.Next(wv1::SessionResponse::kPong).has_value());
    EXPECT_THAT(router.Finish(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must be `hello`")));
  }
  {
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

}  // namespace
}  // namespace tandem
