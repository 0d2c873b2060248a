#include "base/grpc_tls.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/time/clock.h"
#include "base/grpc_channel.h"
#include "base/grpc_server.h"
#include "base/grpc_status.h"
#include "base/mutex.h"
#include "tandem/inference/v1/inference.grpc.pb.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_certificate.h"
#include "tests/support/test_files.h"

namespace tandem {
namespace {

using inference::v1::InferenceService;
using ::testing::HasSubstr;
using Code = absl::StatusCode;

// GetModel is answered at once; Generate gets one message each time that the test says so.
class Service final : public InferenceService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const inference::v1::GetModelRequest*,
                                     inference::v1::GetModelResponse*) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerWriteReactor<inference::v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext*, const inference::v1::GenerateRequest*) override {
    stream_ = new Stream;
    return stream_;
  }
  void Write() { stream_.load()->StartWrite(&response_); }

 private:
  class Stream final : public grpc::ServerWriteReactor<inference::v1::GenerateResponse> {
   public:
    Stream() { StartSendInitialMetadata(); }
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
  };
  const inference::v1::GenerateResponse response_;
  std::atomic<Stream*> stream_ = nullptr;
};

class GrpcTls : public testing::Test {
 protected:
  GrpcTls() {
    config_.set_listen("127.0.0.1:0");
    Serve(own_);
    client_.set_ca_file(folder_.Write("ca.pem", ca_.cert));
  }
  TestCertificate Issue(const std::string& names) {
    return MakeTestCertificate({.names = names, .issuer = &ca_});
  }
  void Serve(const TestCertificate& certificate) {
    config_.mutable_tls()->set_cert_file(folder_.Write("cert.pem", certificate.cert));
    config_.mutable_tls()->set_key_file(folder_.Write("key.pem", certificate.key));
  }
  void Show(const TestCertificate& certificate) {
    client_.set_cert_file(folder_.Write("client.pem", certificate.cert));
    client_.set_key_file(folder_.Write("client_key.pem", certificate.key));
  }
  void Start() {
    ASSERT_OK_AND_ASSIGN(server_, GrpcServer::Start(config_, {.services = {&service_}}));
  }
  std::shared_ptr<grpc::Channel> Channel(const std::string& server_name = "") {
    auto credentials = MakeChannelCredentials(client_, "");
    EXPECT_THAT(credentials, IsOk());
    return MakeChannel(server_->address().ToString(),
                       {.credentials = *credentials, .server_name = server_name});
  }
  // Calls over a new connection; returns the server's certificate.
  absl::StatusOr<std::string> Call(const std::string& server_name = "") {
    const auto stub = InferenceService::NewStub(Channel(server_name));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
    inference::v1::GetModelResponse response;
    RETURN_IF_ERROR(FromGrpcStatus(stub->GetModel(&context, {}, &response)));
    const auto pem = context.auth_context()->FindPropertyValues("x509_pem_cert");
    return pem.empty() ? "" : std::string(pem[0].data(), pem[0].size());
  }

  const TestFolder folder_;
  const TestCertificate ca_ = MakeTestCertificate({.names = "DNS:ca"});
  const TestCertificate own_ = Issue("DNS:router.example,IP:127.0.0.1");
  config::v1::ServerConfig config_;
  config::v1::ClientTlsConfig client_;
  Service service_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(GrpcTls, OnlyAServerWithTheHostsCertificateFromTheAuthorityIsCalled) {
  Start();
  EXPECT_THAT(Call(), IsOkAndHolds(own_.cert));
  EXPECT_THAT(Call("router.example"), IsOkAndHolds(own_.cert));
  EXPECT_THAT(Call("other.example"), StatusIs(Code::kUnavailable, HasSubstr("not for other.exam")));
  client_.set_ca_file(folder_.Write("other.pem", MakeTestCertificate().cert));
  EXPECT_THAT(Call(), StatusIs(Code::kUnavailable));
  client_.Clear();
  EXPECT_THAT(Call(), StatusIs(Code::kUnavailable, HasSubstr("one side may have TLS")));
}

TEST_F(GrpcTls, ServerNamesStandForTheHost) {
  Serve(Issue("DNS:worker.example"));
  Start();
  EXPECT_THAT(Call(), StatusIs(Code::kUnavailable, HasSubstr("not for 127.0.0.1")));
  client_.add_server_names("prefill.example");
  EXPECT_THAT(Call(), StatusIs(Code::kUnavailable, HasSubstr("[worker.example], not for prefill")));
  client_.add_server_names("worker.example");
  EXPECT_THAT(Call(), IsOk());
}

TEST_F(GrpcTls, OnlyClientsWithACertificateOfTheRightNameAreServed) {
  config_.mutable_tls()->set_client_ca_file(client_.ca_file());
  config_.mutable_tls()->add_client_names("spiffe://tandem/router");
  Start();
  EXPECT_THAT(Call(), StatusIs(Code::kUnavailable, HasSubstr("refuses this side's certificate")));
  Show(Issue("URI:spiffe://tandem/worker"));
  EXPECT_THAT(Call(), StatusIs(Code::kUnavailable)) << "another name";
  Show(MakeTestCertificate({.names = "URI:spiffe://tandem/router"}));
  EXPECT_THAT(Call(), StatusIs(Code::kUnavailable)) << "another authority";
  Show(Issue("URI:spiffe://tandem/router"));
  EXPECT_THAT(Call(), IsOk());
}

TEST_F(GrpcTls, NewFilesHoldForNewConnectionsAndOldOnesGoOn) {
  config_.mutable_tls()->set_client_ca_file(client_.ca_file());
  Show(Issue("DNS:client"));
  Start();
  const auto channel = Channel();
  grpc::ClientContext context;
  const auto reader = InferenceService::NewStub(channel)->Generate(&context, {});
  reader->WaitForInitialMetadata();
  inference::v1::GenerateResponse response;

  const TestCertificate next = Issue("IP:127.0.0.1");
  Serve(next);
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  absl::StatusOr<std::string> seen = Call();
  while (seen.ok() && *seen == own_.cert && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
    seen = Call();
  }
  EXPECT_THAT(seen, IsOkAndHolds(next.cert)) << "and no call failed meanwhile";
  service_.Write();
  EXPECT_TRUE(reader->Read(&response)) << "the stream of the old connection goes on";
  context.TryCancel();
  (void)reader->Finish();
}

TEST_F(GrpcTls, AChannelShowsItsNewCertificateWhenItConnectsAnew) {
  config_.mutable_tls()->set_client_ca_file(client_.ca_file());
  config_.mutable_tls()->add_client_names("new");
  Show(Issue("DNS:old"));
  Start();
  const auto stub = InferenceService::NewStub(Channel());
  const auto call = [&] {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    inference::v1::GetModelResponse response;
    return FromGrpcStatus(stub->GetModel(&context, {}, &response));
  };
  EXPECT_THAT(call(), StatusIs(Code::kUnavailable));
  Show(Issue("DNS:new"));
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  absl::Status last = call();
  while (!last.ok() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
    last = call();
  }
  EXPECT_THAT(last, IsOk());
}

TEST_F(GrpcTls, ReplacedFilesThatDoNotFitTakeNothingAway) {
  Start();
  folder_.Write("key.pem", MakeTestCertificate().key);
  absl::SleepFor(2 * Certificates::kInterval);  // not needed for the result: lets them be seen
  EXPECT_THAT(Call(), IsOkAndHolds(own_.cert));
}

TEST_F(GrpcTls, SectionsThatAreHalfSetAreRefused) {
  const auto expect = [&](absl::string_view error) {
    EXPECT_THAT(GrpcServer::Start(config_, {}), StatusIs(Code::kInvalidArgument, HasSubstr(error)));
    Serve(own_);
  };
  config_.mutable_tls()->clear_key_file();
  expect("server.tls.key_file: has to be set too");
  config_.mutable_tls()->clear_cert_file();
  expect("server.tls.cert_file: has to be set too");
  Serve(MakeTestCertificate({.valid_until = -1}));
  expect("server.tls.cert_file: " + config_.tls().cert_file() + " expired at");
  config_.mutable_tls()->add_client_names("a");
  expect("server.tls.client_ca_file: has to be set too");
  config_.clear_tls();
  config_.mutable_tls()->set_client_ca_file("/ca.pem");
  EXPECT_THAT(GrpcServer::Start(config_, {}),
              StatusIs(Code::kInvalidArgument, HasSubstr("client_ca_file asks for TLS")));

  config::v1::ClientTlsConfig tls;
  tls.add_server_names("a");
  EXPECT_THAT(MakeChannelCredentials(tls, "peer_tls"),
              StatusIs(Code::kInvalidArgument, HasSubstr("peer_tls.ca_file: has to be set too")));
  tls.set_ca_file(client_.ca_file());
  tls.set_key_file("/key.pem");
  EXPECT_THAT(MakeChannelCredentials(tls, "peer_tls"),
              StatusIs(Code::kInvalidArgument, HasSubstr("peer_tls.cert_file: has to be set too")));
}

}  // namespace
}  // namespace tandem
