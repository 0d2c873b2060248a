#pragma once
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/grpc_server.h"
#include "base/grpc_status.h"
#include "base/metrics.h"
#include "tests/worker/engine/harness.h"
#include "worker/service/session_service.h"

namespace tandem {

// The worker's service on loopback, with the toy model behind it.
struct SessionServer {
  // Most routers of these tests do not ping.
  explicit SessionServer(ToyModel::Options model_options = {},
                         Silence::Options silence = {.interval = absl::Minutes(1)})
      : model(model_options) {
    pool = *BlockPool::Create({.blocks = model_options.blocks});
    EngineOptions engine_options = SmallOptions();
    engine_options.prefix_cache = false;  // a block that nobody uses is free
    engine =
        *Engine::Start(engine_options, {.model = &model, .pool = pool.get(), .clock = RealClock()});
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
    options.parts.silence = silence;
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
    stub = worker::v1::WorkerService::NewStub(channel);
  }
  ~SessionServer() {
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
  std::unique_ptr<worker::v1::WorkerService::Stub> stub;
};

// A router, as far as these tests need one.
struct TestRouter {
  explicit TestRouter(SessionServer* server) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    stream = server->stub->Session(&context);
  }
  ~TestRouter() {
    if (!finished) context.TryCancel();
    if (!finished) (void)stream->Finish();
  }
  void Hello(uint32_t version = kWorkerProtocolVersion, uint64_t incarnation = 0,
             const std::string& target = "worker:1") {
    worker::v1::SessionRequest request;
    request.mutable_hello()->set_protocol_version(version);
    request.mutable_hello()->set_incarnation(incarnation);
    request.mutable_hello()->set_target(target);
    stream->Write(request);
  }
  void Ping(uint64_t nonce) {
    worker::v1::SessionRequest request;
    request.mutable_ping()->set_nonce(nonce);
    stream->Write(request);
  }
  void Submit(const EngineRequest& from) {
    worker::v1::SessionRequest request;
    worker::v1::Submit* submit = request.mutable_submit();
    submit->set_handle(from.handle);
    submit->set_request_id(from.request_id);
    submit->set_role(worker::v1::ROLE_UNIFIED);
    submit->mutable_prompt_ids()->Add(from.prompt.begin(), from.prompt.end());
    submit->mutable_sampling()->set_seed(from.sampling.seed);
    submit->mutable_sampling()->set_n(from.outputs);
    submit->mutable_stopping()->set_max_tokens(from.max_tokens);
    if (from.logprobs) submit->mutable_response()->set_logprobs(*from.logprobs);
    for (uint32_t i = 0; i < from.resume.size(); ++i) {
      worker::v1::ResumedOutput* resumed = submit->add_resume();
      resumed->set_output_index(i);
      resumed->mutable_token_ids()->Add(from.resume[i].tokens.begin(), from.resume[i].tokens.end());
      resumed->set_ended(from.resume[i].ended);
    }
    stream->Write(request);
  }
  // The next message of this kind; others are passed over.
  std::optional<worker::v1::SessionResponse> Next(worker::v1::SessionResponse::MessageCase kind) {
    worker::v1::SessionResponse response;
    while (stream->Read(&response)) {
      if (response.has_step()) last_step = response.step().step_number();
      if (response.message_case() == kind) return response;
    }
    return std::nullopt;
  }
  // All tokens of a request, from the `first` on, until it ends.
  std::vector<int32_t> TokensOf(uint64_t handle, size_t first = 0) {
    std::vector<int32_t> ids;
    while (const auto response = Next(worker::v1::SessionResponse::kStep)) {
      for (const worker::v1::SequenceStep& step : response->step().sequences()) {
        if (step.handle() != handle) continue;
        EXPECT_EQ(step.first_index(), first + ids.size());
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
  std::unique_ptr<grpc::ClientReaderWriter<worker::v1::SessionRequest, worker::v1::SessionResponse>>
      stream;
  bool finished = false;
  uint64_t last_step = 0;  // the number of the newest step that was read, also by Next
};

}  // namespace tandem
