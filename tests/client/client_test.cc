#include "client/client.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <atomic>

#include "base/grpc_status.h"
#include "tandem/inference/v1/inference.grpc.pb.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

namespace v1 = inference::v1;
using ::testing::HasSubstr;

// Streams the numbers 0, 1, 2, ... as text until the client leaves, or `messages` are sent.
class FakeRouter final : public v1::InferenceService::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    if (request->model() == "unknown") {
      return ToGrpcStatus(WithReason(absl::NotFoundError("no model \"unknown\""), "UNKNOWN_MODEL"));
    }
    for (uint32_t i = 0; i < request->stopping().max_tokens(); ++i) {
      v1::GenerateResponse response;
      response.add_outputs()->set_text(absl::StrCat(i));
      if (!writer->Write(response)) break;
    }
    cancelled = context->IsCancelled();
    return grpc::Status::OK;
  }
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    response->add_models()->set_name("m");
    return grpc::Status::OK;
  }

  std::atomic<bool> cancelled{false};
};

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&router_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    endpoint_ = absl::StrCat("127.0.0.1:", port);
  }
  void Stop() { server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(10)); }
  void TearDown() override { Stop(); }

  std::unique_ptr<Client> Connected() { return *Client::Create({.endpoint = endpoint_}); }

  FakeRouter router_;
  std::unique_ptr<grpc::Server> server_;
  std::string endpoint_;
};

v1::GenerateRequest RequestOf(uint32_t tokens) {
  v1::GenerateRequest request;
  request.mutable_stopping()->set_max_tokens(tokens);
  return request;
}

TEST_F(ClientTest, EveryMessageComesOnceAndInOrder) {
  std::string text;
  ASSERT_THAT(Connected()->Generate(RequestOf(5),
                                    [&text](const v1::GenerateResponse& response) {
                                      text += response.outputs(0).text();
                                      return true;
                                    }),
              IsOk());
  EXPECT_EQ(text, "01234");
}

TEST_F(ClientTest, AReaderThatStopsCancelsTheRequest) {
  int seen = 0;
  EXPECT_THAT(Connected()->Generate(RequestOf(1u << 31),
                                    [&seen](const v1::GenerateResponse&) { return ++seen < 3; }),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(seen, 3);
  Stop();  // waits for the handler
  EXPECT_TRUE(router_.cancelled);
}

TEST_F(ClientTest, AnErrorKeepsItsDetails) {
  v1::GenerateRequest request;
  request.set_model("unknown");
  const absl::Status status =
      Connected()->Generate(request, [](const v1::GenerateResponse&) { return true; });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("unknown")));
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), "UNKNOWN_MODEL");
}

TEST_F(ClientTest, ModelsAreListed) {
  ASSERT_OK_AND_ASSIGN(const auto models, Connected()->ListModels());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).name(), "m");
}

TEST_F(ClientTest, ARefusedConnectionIsToldAtOnceAndNamesTheEndpoint) {
  Stop();
  const absl::Time start = absl::Now();
  EXPECT_THAT(Connected()->ListModels(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nothing answers at 127.0.0.1:")));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));  // half of the time limit for connecting
}

}  // namespace
}  // namespace tandem
