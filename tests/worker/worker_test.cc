// Whole workers in this process, with a tiny model that transformers has computed too.
#include "worker/worker.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/config.h"
#include "tests/support/golden.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace wv1 = worker::v1;

absl::StatusOr<config::v1::WorkerConfig> ConfigFor(const std::string& model,
                                                   std::vector<std::string> sets = {}) {
  sets.insert(sets.begin(),
              {absl::StrCat("model.path=", model), "server.listen=127.0.0.1:0",
               "kv.transfer_listen=127.0.0.1:0", "kv.shm=false", "observability.listen=127.0.0.1:0",
               "kv.blocks=64", "engine.max_sequences=8", "engine.max_batch_tokens=32",
               "engine.threads=1", "heartbeat.missed=100"});  // these sessions do not ping
  return LoadConfig<config::v1::WorkerConfig>("", sets);
}

absl::StatusOr<std::unique_ptr<Worker>> StartWorker(const std::string& model,
                                                    std::vector<std::string> sets = {}) {
  ASSIGN_OR_RETURN(const config::v1::WorkerConfig config, ConfigFor(model, std::move(sets)));
  return Worker::Start(config);
}

// One router's session with one worker.
class TestSession {
 public:
  explicit TestSession(const Worker& worker)
      : stub_(wv1::WorkerService::NewStub(grpc::CreateChannel(
            worker.addresses().at("grpc"), grpc::InsecureChannelCredentials()))) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    stream_ = stub_->Session(&context_);
    wv1::SessionRequest hello;
    hello.mutable_hello()->set_protocol_version(kWorkerProtocolVersion);
    stream_->Write(hello);
    wv1::SessionResponse answer;
    EXPECT_TRUE(stream_->Read(&answer));
    info_ = answer.hello();
  }
  ~TestSession() {
    context_.TryCancel();
    (void)stream_->Finish();
  }
  const wv1::WorkerInfo& info() const { return info_; }

  void Submit(wv1::Submit submit) {
    wv1::SessionRequest request;
    *request.mutable_submit() = std::move(submit);
    stream_->Write(request);
  }
  // Everything that is said of the one request, until it ends with finish, handoff or an error.
  std::vector<wv1::SequenceStep> UntilEnd(bool handoff) {
    std::vector<wv1::SequenceStep> steps;
    wv1::SessionResponse response;
    while (stream_->Read(&response)) {
      if (response.has_refused()) {
        ADD_FAILURE() << "refused: " << response.refused().status().message();
        return steps;
      }
      for (const wv1::SequenceStep& step : response.step().sequences()) {
        steps.push_back(step);
        EXPECT_FALSE(step.has_error()) << step.error().message();
        if (step.has_error() || step.has_handoff()) return steps;
        if (step.has_finish() && !handoff) return steps;
      }
    }
    ADD_FAILURE() << "the stream ended";
    return steps;
  }

 private:
  std::unique_ptr<wv1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<wv1::SessionRequest, wv1::SessionResponse>> stream_;
  wv1::WorkerInfo info_;
};

wv1::Submit GreedySubmit(const Golden& golden, wv1::Role role) {
  wv1::Submit submit;
  submit.set_handle(1);
  submit.set_request_id(absl::StrCat("r", role));
  submit.set_role(role);
  submit.mutable_prompt_ids()->Add(golden.prompt.begin(), golden.prompt.end());
  submit.mutable_sampling()->set_temperature(0);
  submit.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(golden.greedy.size()));
  submit.mutable_stopping()->set_ignore_eos(true);
  return submit;
}

std::vector<int32_t> TokensOf(const std::vector<wv1::SequenceStep>& steps) {
  std::vector<int32_t> ids;
  for (const wv1::SequenceStep& step : steps) {
    EXPECT_EQ(step.first_index(), ids.size());
    ids.insert(ids.end(), step.token_ids().begin(), step.token_ids().end());
  }
  return ids;
}

TEST(Worker, AnswersWithTheTokensOfTransformers) {
  for (const std::string name : {"gqa", "gguf_q4_1"}) {
    SCOPED_TRACE(name);
    ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden(name));
    ASSERT_OK_AND_ASSIGN(const auto worker, StartWorker(golden.model, {"model.name=tiny"}));
    TestSession session(*worker);
    EXPECT_EQ(session.info().model(), "tiny");
    EXPECT_EQ(session.info().layout().kv_abi().size(), 64u);
    EXPECT_EQ(session.info().handoff_address(), worker->addresses().at("grpc"));
    session.Submit(GreedySubmit(golden, wv1::ROLE_UNIFIED));
    EXPECT_EQ(TokensOf(session.UntilEnd(/*handoff=*/false)), golden.greedy);
    worker->Drain();
  }
}

TEST(Worker, PrefillAndDecodeApartGiveTheSameAnswer) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden("gqa"));
  ASSERT_OK_AND_ASSIGN(const auto prefill, StartWorker(golden.model, {"role=prefill"}));
  ASSERT_OK_AND_ASSIGN(const auto decode, StartWorker(golden.model, {"role=decode"}));
  TestSession to_prefill(*prefill), to_decode(*decode);
  EXPECT_EQ(to_prefill.info().layout().kv_abi(), to_decode.info().layout().kv_abi());
  wv1::Submit submit = GreedySubmit(golden, wv1::ROLE_DECODE);
  to_decode.Submit(submit);
  submit.set_role(wv1::ROLE_PREFILL);
  submit.set_peer(to_decode.info().handoff_address());
  to_prefill.Submit(submit);
  const std::vector<wv1::SequenceStep> first = to_prefill.UntilEnd(/*handoff=*/true);
  EXPECT_EQ(TokensOf({first[0]}), std::vector<int32_t>{golden.greedy[0]});
  EXPECT_GT(first.back().handoff().kv_bytes(), 0u);
  EXPECT_EQ(TokensOf(to_decode.UntilEnd(/*handoff=*/false)), golden.greedy);
}

TEST(Worker, ASimulatedOneAnswersInItsTimeAndHandsOver) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden("gqa"));
  const std::vector<std::string> fast = {"backend=sim", "sim.step=1ms"};
  const auto with = [&](std::string role) {
    std::vector<std::string> sets = fast;
    sets.push_back("role=" + role);
    return StartWorker(golden.model, sets);
  };
  ASSERT_OK_AND_ASSIGN(const auto unified, with("unified"));
  ASSERT_OK_AND_ASSIGN(const auto prefill, with("prefill"));
  ASSERT_OK_AND_ASSIGN(const auto decode, with("decode"));
  TestSession to_unified(*unified), to_prefill(*prefill), to_decode(*decode);
  EXPECT_EQ(to_unified.info().layout().numerics_class(), "sim-1");
  to_unified.Submit(GreedySubmit(golden, wv1::ROLE_UNIFIED));
  const std::vector<int32_t> alone = TokensOf(to_unified.UntilEnd(/*handoff=*/false));
  EXPECT_EQ(alone.size(), golden.greedy.size());
  wv1::Submit submit = GreedySubmit(golden, wv1::ROLE_DECODE);
  to_decode.Submit(submit);
  submit.set_role(wv1::ROLE_PREFILL);
  submit.set_peer(to_decode.info().handoff_address());
  to_prefill.Submit(submit);
  to_prefill.UntilEnd(/*handoff=*/true);
  EXPECT_EQ(TokensOf(to_decode.UntilEnd(/*handoff=*/false)), alone);
}

TEST(Worker, WhatCanNotStartSaysWhichOptionIsWrong) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden("gqa"));
  const auto start = [&](std::vector<std::string> sets) {
    return StartWorker(golden.model, std::move(sets)).status();
  };
  EXPECT_THAT(StartWorker("/no/such/model"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/model")));
  EXPECT_THAT(start({"engine.max_context=1000000"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("engine.max_context")));
  EXPECT_THAT(start({"engine.max_batch_tokens=8"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("max_batch_tokens is 8"), HasSubstr("needs 24"))));
  EXPECT_THAT(start({"kv.transfer_listen=0.0.0.0:0"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("kv.transfer_listen")));
  EXPECT_THAT(start({"server.listen=0.0.0.0:0"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("server.listen")));
  EXPECT_THAT(
      start({"backend=sim", "model.weights=int8"}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model.weights: `backend: sim`")));
  EXPECT_THAT(start({"backend=sim", "model.activations=int8"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model.activations")));
  const auto wrong = [&](std::vector<std::string> sets, absl::string_view error) {
    EXPECT_THAT(start(std::move(sets)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
  };
  const std::string cert = "server.tls.cert_file=/c.pem", key = "server.tls.key_file=/k.pem",
                    ca = "server.tls.client_ca_file=/ca.pem";
  wrong({"peer_tls.ca_file=/ca.pem"}, "server.tls.cert_file: has to be set too");
  wrong({"peer_tls.cert_file=/ca.pem"}, "peer_tls.ca_file: has to be set too");
  wrong({cert, key}, "server.tls.client_ca_file: has to be set too");
  wrong({cert, ca}, "server.tls.key_file: has to be set too");
  wrong({cert, key, ca, "peer_tls.ca_file=/ca.pem"}, "peer_tls.cert_file: has to be set too");
  wrong({cert, key, ca}, "server.tls.cert_file: cannot read /c.pem");
}

TEST(Worker, ARoleThatItIsNotConfiguredForIsRefused) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden("gqa"));
  ASSERT_OK_AND_ASSIGN(const auto worker, StartWorker(golden.model, {"role=decode"}));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  const auto stub = wv1::WorkerService::NewStub(
      grpc::CreateChannel(worker->addresses().at("grpc"), grpc::InsecureChannelCredentials()));
  const auto stream = stub->Session(&context);
  wv1::SessionRequest request;
  request.mutable_hello()->set_protocol_version(kWorkerProtocolVersion);
  stream->Write(request);
  *request.mutable_submit() = GreedySubmit(golden, wv1::ROLE_PREFILL);
  request.mutable_submit()->set_peer("127.0.0.1:1");
  stream->Write(request);
  wv1::SessionResponse response;
  while (stream->Read(&response) && !response.has_refused()) {
  }
  EXPECT_EQ(response.refused().status().code(),
            static_cast<int>(absl::StatusCode::kFailedPrecondition));
  context.TryCancel();
  (void)stream->Finish();
}

}  // namespace
}  // namespace tandem
