#include "client/client.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <netdb.h>

#include <atomic>

#include "base/address.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "client/tls_probe.h"
#include "tandem/inference/v1/inference.grpc.pb.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_certificate.h"
#include "tests/support/test_files.h"

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
  void SetUp() override { Serve(grpc::InsecureServerCredentials()); }
  void Serve(const std::shared_ptr<grpc::ServerCredentials>& credentials) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port);
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

// A router with a certificate for localhost and 127.0.0.1 that is its own authority.
class TlsClientTest : public ClientTest {
 protected:
  void SetUp() override { ServeTls(/*client_authority=*/""); }
  void ServeTls(const std::string& client_authority) {
    grpc::SslServerCredentialsOptions options(
        client_authority.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                 : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    options.pem_root_certs = client_authority;
    options.pem_key_cert_pairs.push_back({own_.key, own_.cert});
    Serve(grpc::SslServerCredentials(options));
  }
  absl::Status List(Client::Options options) {
    options.endpoint = endpoint_;
    ASSIGN_OR_RETURN(const auto client, Client::Create(options));
    return client->ListModels().status();
  }

  const TestFolder folder_;
  const TestCertificate own_ = MakeTestCertificate();
};

TEST_F(TlsClientTest, WhoTrustsTheRoutersAuthorityIsServed) {
  Client::Options options;
  options.ca_file = folder_.Write("ca.pem", own_.cert);
  EXPECT_THAT(List(options), IsOk());
  options.server_name = "localhost";
  EXPECT_THAT(List(options), IsOk());
}

TEST_F(TlsClientTest, AClientWithoutTlsIsToldThatTheRouterHasIt) {
  EXPECT_THAT(List({}), StatusIs(absl::StatusCode::kUnavailable,
                                 HasSubstr(endpoint_ + " speaks TLS: name a file")));
}

TEST_F(TlsClientTest, ACertificateThatDoesNotFitIsTheReasonThatIsTold) {
  Client::Options options;
  options.ca_file = folder_.Write("other.pem", MakeTestCertificate().cert);
  const auto refused = StatusIs(absl::StatusCode::kUnavailable, HasSubstr("did not agree"));
  EXPECT_THAT(List(options), refused);
  options.ca_file = folder_.Write("ca.pem", own_.cert);
  options.server_name = "elsewhere.example";
  EXPECT_THAT(List(options), refused);
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses AddressOf(const std::string& endpoint) {
  const HostPort where = *ParseHostPort(endpoint);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  EXPECT_EQ(getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found), 0);
  return {found, freeaddrinfo};
}

TEST_F(TlsClientTest, AProbeGoesOnToTheNextAddressWhereNothingListens) {
  const Addresses second = AddressOf(endpoint_);
  const Addresses first = AddressOf("127.0.0.1:1");
  EXPECT_EQ(ProbeListener(first.get(), absl::Seconds(5)), Listener::kNone);
  addrinfo* last = first.get();
  while (last->ai_next != nullptr) last = last->ai_next;
  last->ai_next = second.get();
  EXPECT_EQ(ProbeListener(first.get(), absl::Seconds(5)), Listener::kTls);
  last->ai_next = nullptr;  // each frees its own
}

TEST_F(TlsClientTest, ARouterThatAsksForACertificateGetsIt) {
  Stop();
  const TestCertificate mine = MakeTestCertificate();
  ServeTls(mine.cert);
  Client::Options options;
  options.ca_file = folder_.Write("ca.pem", own_.cert);
  EXPECT_THAT(List(options),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("--cert-file, --key-file")));
  options.cert_file = folder_.Write("cert.pem", mine.cert);
  options.key_file = folder_.Write("key.pem", mine.key);
  EXPECT_THAT(List(options), IsOk());
}

TEST_F(ClientTest, ARouterWithoutTlsIsTheReasonThatIsTold) {
  const TestFolder folder;
  const std::string path = folder.Write("ca.pem", MakeTestCertificate().cert);
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Create({.endpoint = endpoint_, .ca_file = path}));
  EXPECT_THAT(client->ListModels(), StatusIs(absl::StatusCode::kUnavailable,
                                             HasSubstr(endpoint_ + " does not speak TLS")));
}

TEST(Client, FilesThatDoNotFitAreNamedWhenItIsMade) {
  EXPECT_THAT(Client::Create({.ca_file = "/nonexistent/ca.pem"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("ca_file: cannot read /nonexistent/ca.pem")));
  EXPECT_THAT(Client::Create({.server_name = "localhost"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("server_name is for TLS")));
}

}  // namespace
}  // namespace tandem
