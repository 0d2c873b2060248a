#include "base/grpc_server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/grpc_channel.h"
#include "base/grpc_deadline.h"
#include "base/grpc_status.h"
#include "base/mutex.h"
#include "tandem/inference/v1/inference.grpc.pb.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using config::v1::ServerConfig;
using inference::v1::InferenceService;
using ::testing::HasSubstr;

// GetModel fails with a detailed error; Tokenize gives a text back twice over; Generate never ends
// by itself.
class Service final : public InferenceService::CallbackService {
 public:
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const inference::v1::TokenizeRequest* request,
                                     inference::v1::TokenizeResponse* response) override {
    response->set_rendered(request->text() + request->text());
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const inference::v1::GetModelRequest* request,
                                     inference::v1::GetModelResponse*) override {
    {
      MutexLock lock(&mu_);
      deadline_ = context->raw_deadline();
    }
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(
        WithReason(absl::NotFoundError("no model " + request->model()), "MODEL_NOT_FOUND")));
    return reactor;
  }
  grpc::ServerWriteReactor<inference::v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext*, const inference::v1::GenerateRequest*) override {
    class Endless final : public grpc::ServerWriteReactor<inference::v1::GenerateResponse> {
     public:
      Endless() { StartSendInitialMetadata(); }
      void OnCancel() override { Finish(grpc::Status::CANCELLED); }
      void OnDone() override { delete this; }
    };
    return new Endless;
  }

  gpr_timespec deadline() const {
    MutexLock lock(&mu_);
    return deadline_;
  }

 private:
  mutable Mutex mu_;
  gpr_timespec deadline_ ABSL_GUARDED_BY(mu_);  // of the last GetModel
};

// One call with raw bytes, of a service that has no stub here. Returns the answer's bytes.
absl::StatusOr<std::string> CallRaw(const std::shared_ptr<grpc::Channel>& channel,
                                    const std::string& method, const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  const grpc::Slice slice(request);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), {}, nullptr);
  queue.Next(&tag, &ok);
  grpc::ByteBuffer buffer;
  call->Read(&buffer, nullptr);
  queue.Next(&tag, &ok);
  std::string answer;
  if (ok) {
    grpc::Slice all;
    if (buffer.DumpToSingleSlice(&all).ok()) {
      answer.assign(reinterpret_cast<const char*>(all.begin()), all.size());
    }
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  queue.Shutdown();
  if (!status.ok()) return FromGrpcStatus(status);
  return answer;
}

class GrpcServerTest : public ::testing::Test {
 protected:
  GrpcServerTest() { config_.set_listen("127.0.0.1:0"); }

  absl::StatusOr<std::unique_ptr<GrpcServer>> Start() {
    GrpcServer::Options options;
    options.services = {&service_};
    options.max_message_bytes = 64 << 10;
    options.max_buffer_bytes = 64 << 20;
    return GrpcServer::Start(config_, options);
  }

  std::shared_ptr<grpc::Channel> Channel(const GrpcServer& server, ChannelOptions options = {}) {
    return MakeChannel(absl::StrCat("127.0.0.1:", server.address().port), options);
  }

  absl::Status GetModel(const std::shared_ptr<grpc::Channel>& channel, const std::string& model) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    inference::v1::GetModelRequest request;
    request.set_model(model);
    inference::v1::GetModelResponse response;
    return FromGrpcStatus(
        InferenceService::NewStub(channel)->GetModel(&context, request, &response));
  }

  Service service_;
  ServerConfig config_;
};

TEST_F(GrpcServerTest, ACallsDeadlineIsKnownWithoutTheSystemsTime) {
  ASSERT_OK_AND_ASSIGN(const auto server, Start());
  for (const absl::Duration budget : {absl::Seconds(1000), absl::InfiniteDuration()}) {
    const absl::Time deadline = RealClock()->Now() + budget;
    grpc::ClientContext context;
    context.set_deadline(ToGrpcDeadline(deadline));
    inference::v1::GetModelResponse response;
    const grpc::Status status =
        InferenceService::NewStub(Channel(*server))->GetModel(&context, {}, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << status.error_message();
    const gpr_timespec received = service_.deadline();
    EXPECT_EQ(received.clock_type, GPR_CLOCK_MONOTONIC);
    const absl::Time seen = FromGrpcDeadline(received);
    if (budget == absl::InfiniteDuration()) {
      EXPECT_EQ(seen, absl::InfiniteFuture());
    } else {  // it travels as what is left, in at most eight digits
      EXPECT_LT(absl::AbsDuration(seen - deadline), absl::Seconds(100));
    }
  }
}

TEST_F(GrpcServerTest, ServesOnThePortTheSystemChoseWithErrorDetails) {
  ASSERT_OK_AND_ASSIGN(const auto server, Start());
  EXPECT_NE(server->address().port, 0);
  const absl::Status status = GetModel(Channel(*server), "m");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, "no model m"));
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), "MODEL_NOT_FOUND");
}

TEST_F(GrpcServerTest, HealthFollowsSetServing) {
  ASSERT_OK_AND_ASSIGN(const auto server, Start());
  const auto channel = Channel(*server);
  const std::string serving = "\x08\x01", not_serving = "\x08\x02";  // field 1, an enum
  EXPECT_THAT(CallRaw(channel, "/grpc.health.v1.Health/Check", ""), IsOkAndHolds(not_serving));
  server->SetServing(true);
  EXPECT_THAT(CallRaw(channel, "/grpc.health.v1.Health/Check", ""), IsOkAndHolds(serving));
  server->SetServing(false);
  EXPECT_THAT(CallRaw(channel, "/grpc.health.v1.Health/Check", ""), IsOkAndHolds(not_serving));
}

TEST_F(GrpcServerTest, ReflectionIsThereOnLoopbackElseWhenAskedFor) {
  const std::string method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const std::string list_services = "\x3a\x01*";  // field 7, a string
  const auto answer = [&]() -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const auto server, Start());
    return CallRaw(Channel(*server), method, list_services);
  };
  EXPECT_THAT(answer(), IsOkAndHolds(HasSubstr("tandem.inference.v1.InferenceService")));
  config_.set_listen("0.0.0.0:0");
  config_.set_insecure(true);
  EXPECT_THAT(answer(), StatusIs(absl::StatusCode::kUnimplemented));
  config_.set_reflection(true);
  EXPECT_THAT(answer(), IsOkAndHolds(HasSubstr("tandem.inference.v1.InferenceService")));
}

TEST_F(GrpcServerTest, ReflectionDescribesHealth) {
  const std::string method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const std::string symbol = "grpc.health.v1.Health";
  ASSERT_OK_AND_ASSIGN(const auto server, Start());
  const std::string ask = absl::StrCat("\x22", std::string(1, symbol.size()), symbol);  // field 4
  EXPECT_THAT(CallRaw(Channel(*server), method, ask),
              IsOkAndHolds(HasSubstr("grpc/health/v1/health.proto")));
}

TEST_F(GrpcServerTest, RefusesToBeReachedWithoutTls) {
  for (const char* listen : {"0.0.0.0:0", "[::]:0", "10.0.0.1:0"}) {
    config_.set_listen(listen);
    EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kInvalidArgument,
                                  HasSubstr("needs TLS: set server.tls.cert_file")));
  }
}

TEST_F(GrpcServerTest, APortInUseIsAnErrorAndNotShared) {
  ASSERT_OK_AND_ASSIGN(const auto server, Start());
  config_.set_listen(server->address().ToString());
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("cannot listen on " + config_.listen())));
}

TEST_F(GrpcServerTest, AMessageAboveTheLimitIsRefused) {
  ASSERT_OK_AND_ASSIGN(const auto server, Start());
  ChannelOptions options;
  options.max_message_bytes = 1 << 20;
  EXPECT_THAT(GetModel(Channel(*server, options), std::string(65 << 10, 'm')),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(GrpcServerTest, AnAnswerMayBeLargerThanARequest) {
  ASSERT_OK_AND_ASSIGN(const auto server, Start());
  grpc::ClientContext context;
  inference::v1::TokenizeRequest request;
  request.set_text(std::string(60 << 10, 't'));
  inference::v1::TokenizeResponse response;
  const grpc::Status status =
      InferenceService::NewStub(Channel(*server))->Tokenize(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.rendered().size(), size_t{120} << 10);
}

TEST_F(GrpcServerTest, ShutdownEndsAStreamThatWouldNeverEnd) {
  ASSERT_OK_AND_ASSIGN(const auto server, Start());
  grpc::ClientContext context;
  const auto reader = InferenceService::NewStub(Channel(*server))
                          ->Generate(&context, inference::v1::GenerateRequest());
  reader->WaitForInitialMetadata();  // the call runs
  const absl::Time before = absl::Now();
  server->Shutdown(absl::Milliseconds(50));
  EXPECT_LT(absl::Now() - before, absl::Seconds(10));
  inference::v1::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_FALSE(reader->Finish().ok());
}

}  // namespace
}  // namespace tandem
