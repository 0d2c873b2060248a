#include "worker/service/handoff_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/grpc_server.h"
#include "tandem/kv/v1/kv.grpc.pb.h"
#include "tests/support/handoff_ends.h"
#include "tests/support/kv_tls.h"
#include "tests/support/memory_blocks.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/status_matchers.h"
#include "worker/service/layout_message.h"

// Two workers' handoffs in one process, over real gRPC and tcp on loopback.
namespace tandem {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;
using Files = std::shared_ptr<const Certificates>;

class Side {
 public:
  explicit Side(const KvLayout& layout = SmallLayout(), int port = 0, HandoffOptions options = {})
      : memory(layout, 64) {
    options.incarnation = NewIncarnation();
    options.name = "test";
    options.shm = !options.shm_directory.empty();
    handoffs = *MakeHandoffs(&memory, options);
    config::v1::ServerConfig config;
    if (options.tls.listen != nullptr) {
      const TlsSettings& tls = options.tls.listen->settings();
      config.mutable_tls()->set_cert_file(tls.cert_file);
      config.mutable_tls()->set_key_file(tls.key_file);
      config.mutable_tls()->set_client_ca_file(tls.ca_file);
    }
    config.set_listen("127.0.0.1:" + std::to_string(port));
    server = *GrpcServer::Start(config, {.services = {handoffs->service()}});
  }
  ~Side() {
    server->Shutdown(absl::ZeroDuration());
    handoffs.reset();
  }
  std::string address() const { return server->address().ToString(); }

  MemoryBlocks memory;
  std::unique_ptr<Handoffs> handoffs;
  std::unique_ptr<GrpcServer> server;
};

absl::Time Soon() { return RealClock()->Now() + absl::Seconds(15); }

// Hands 10 tokens (3 blocks) over, and checks every byte.
void HandOver(Side& from, Side& to, const HandoffKey& key, uint32_t salt) {
  HandoffEnd<HandoffSent> sent;
  HandoffEnd<HandoffReceived> received;
  const std::vector<BlockId> there = BlocksFrom(5, 4);  // with room to decode
  from.handoffs->sender()->Begin(key, to.address(), 10, BlocksFrom(20, 3), Soon(), sent.Callback());
  to.handoffs->receiver()->Expect(key, 10, there, 0, Soon(), received.Callback());
  for (uint32_t layer = 0; layer < 3; ++layer) {
    for (uint32_t block = 20; block < 23; ++block) from.memory.Fill(layer, BlockId{block}, salt);
    from.handoffs->sender()->LayerReady(key, layer, 10);
  }
  from.handoffs->sender()->Finish(key, {{0, 1234, false}});
  ASSERT_OK_AND_ASSIGN(const HandoffSent result, sent.Wait());
  EXPECT_EQ(result.bytes, 3u * 3 * 512);
  ASSERT_OK_AND_ASSIGN(const HandoffReceived got, received.Wait());
  ASSERT_EQ(got.first_tokens.size(), 1u);
  EXPECT_EQ(got.first_tokens[0].token_id, 1234);
  EXPECT_EQ(got.bytes, result.bytes);
  for (uint32_t layer = 0; layer < 3; ++layer) {
    for (uint32_t block = 0; block < 3; ++block) {
      EXPECT_EQ(from.memory.Slice(layer, BlockId{20 + block}),
                to.memory.Slice(layer, there[block]));
    }
  }
}

TEST(HandoffService, KvTravelsThroughSharedMemoryWhereBothHaveTheFolder) {
  const ScratchFolder folder, other;
  Side prefill(SmallLayout(), 0, {.shm_directory = folder.path()});
  Side decode(SmallLayout(), 0, {.shm_directory = folder.path()});
  Side remote(SmallLayout(), 0, {.shm_directory = other.path()});
  testing::internal::CaptureStderr();
  HandOver(prefill, decode, {"first", 1}, 1);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("transport=shm"));
  testing::internal::CaptureStderr();
  HandOver(prefill, remote, {"second", 1}, 2);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("transport=tcp"));
  EXPECT_THAT(log, HasSubstr("kv transport does not reach the peer"));
}

TEST(HandoffService, AChosenFolderThatCannotBeUsedIsNamed) {
  MemoryBlocks memory(SmallLayout(), 4);
  EXPECT_THAT(MakeHandoffs(&memory, {.shm_directory = "/no/such/folder"}),
              StatusIs(Code::kInvalidArgument, HasSubstr("kv.shm_directory: ")));
}

TEST(HandoffService, KvTravelsBetweenTwoWorkers) {
  Side prefill, decode;
  HandOver(prefill, decode, {"first", 1}, 1);
  HandOver(prefill, decode, {"second", 1}, 2);
  EXPECT_EQ(prefill.handoffs->sent().links_made, 1u) << "one link serves all handoffs";
  HandOver(decode, prefill, {"back", 1}, 3);
}

TEST(HandoffService, OverTlsItTravelsToWhoHasACertificateAndToNobodyElse) {
  const TestCertificate ca = MakeTestCertificate({.names = "DNS:ca"});
  const TestFolder good, bad;
  const Files files = WatchFiles(good.path(), MakeTestCertificate({.issuer = &ca}), ca.cert);
  const Files others = WatchFiles(bad.path(), MakeTestCertificate(), ca.cert);
  Side prefill(SmallLayout(), 0, {.tls = {files, files}});
  Side decode(SmallLayout(), 0, {.tls = {files, files}});
  HandOver(prefill, decode, {"first", 1}, 1);
  HandOver(decode, prefill, {"back", 1}, 2);
  Side stranger(SmallLayout(), 0, {.tls = {others, others}}), plain;
  HandoffEnd<HandoffSent> of_stranger, of_plain;
  stranger.handoffs->sender()->Begin({"r", 1}, decode.address(), 4, BlocksFrom(0, 1), Soon(),
                                     of_stranger.Callback());
  plain.handoffs->sender()->Begin({"p", 1}, decode.address(), 4, BlocksFrom(0, 1), Soon(),
                                  of_plain.Callback());
  EXPECT_THAT(of_stranger.Wait(), StatusIs(Code::kUnavailable, HasSubstr("refuses this side's")));
  EXPECT_THAT(of_plain.Wait(), StatusIs(Code::kUnavailable, HasSubstr("one side may have TLS")));
}

TEST(HandoffService, ARestartedPeerIsLinkedAnew) {
  Side prefill;
  auto decode = std::make_unique<Side>();
  HandOver(prefill, *decode, {"first", 1}, 1);
  const int port = decode->server->address().port;
  decode.reset();
  decode = std::make_unique<Side>(SmallLayout(), port);
  HandOver(prefill, *decode, {"second", 1}, 2);
  EXPECT_EQ(prefill.handoffs->sent().links_made, 2u);
}

TEST(HandoffService, LayoutsThatDifferAreNamedAtLinkTime) {
  Side prefill;
  KvLayout other = SmallLayout();
  other.weights_digest = "x";
  Side decode(other);
  HandoffEnd<HandoffSent> sent;
  prefill.handoffs->sender()->Begin({"r", 1}, decode.address(), 4, BlocksFrom(0, 1), Soon(),
                                    sent.Callback());
  EXPECT_THAT(sent.Wait(), StatusIs(Code::kFailedPrecondition,
                                    HasSubstr("weights_digest: x here, w at the peer")));
}

// A handoff stream that names no link, and what it ends with: at the latest when `patience` ends.
class Lurker {
 public:
  Lurker(const Side& side, absl::Duration patience)
      : stub_(kv::v1::HandoffService::NewStub(
            grpc::CreateChannel(side.address(), grpc::InsecureChannelCredentials()))) {
    context_.set_deadline(absl::ToChronoTime(RealClock()->Now() + patience));
    stream_ = stub_->Handoff(&context_);
  }
  grpc::Status End() {
    kv::v1::HandoffResponse response;
    EXPECT_FALSE(stream_->Read(&response));
    return stream_->Finish();
  }
  void Leave() { context_.TryCancel(); }

 private:
  const std::unique_ptr<kv::v1::HandoffService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<kv::v1::HandoffRequest, kv::v1::HandoffResponse>>
      stream_;
};

TEST(HandoffService, AStreamThatNamesNoLinkIsEnded) {
  Side decode(SmallLayout(), 0, {.unlinked_timeout = absl::Milliseconds(50)});
  const grpc::Status end = Lurker(decode, absl::Seconds(15)).End();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(end.error_message(), HasSubstr("names no link within 50ms"));
}

TEST(HandoffService, StreamsThatNameNoLinkAreFewAndDoNotStayInTheWay) {
  Side prefill;
  Side decode(SmallLayout(), 0,
              {.max_unlinked_streams = 2, .unlinked_timeout = absl::InfiniteDuration()});
  Lurker first(decode, absl::Minutes(1)), second(decode, absl::Minutes(1));
  grpc::Status refused;
  for (int i = 0; i < 100 && refused.error_code() != grpc::StatusCode::UNAVAILABLE; ++i) {
    refused = Lurker(decode, absl::Milliseconds(100)).End();  // until the other two are there
  }
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.error_message(), "all 2 handoff streams without a link are used");
  first.Leave();
  HandOver(prefill, decode, {"first", 1}, 1);
  HandOver(prefill, decode, {"second", 1}, 2);
  second.Leave();
}

TEST(HandoffService, NobodyThereIsUnavailableAndSaysWhatWasTried) {
  Side prefill;
  std::string address;
  {
    Side gone;
    address = gone.address();
  }
  HandoffEnd<HandoffSent> sent;
  prefill.handoffs->sender()->Begin({"r", 1}, address, 4, BlocksFrom(0, 1), Soon(),
                                    sent.Callback());
  EXPECT_THAT(sent.Wait(), StatusIs(Code::kUnavailable, HasSubstr(address)));
}

TEST(HandoffService, APeerOffLoopbackNeedsTheInsecureOption) {
  Side prefill;
  HandoffEnd<HandoffSent> sent;
  prefill.handoffs->sender()->Begin({"r", 1}, "192.0.2.1:9100", 4, BlocksFrom(0, 1), Soon(),
                                    sent.Callback());
  EXPECT_THAT(sent.Wait(), StatusIs(Code::kFailedPrecondition, HasSubstr("insecure")));
  MemoryBlocks memory(SmallLayout(), 1);
  EXPECT_THAT(MakeHandoffs(&memory, {.transfer_listen = "0.0.0.0:0"}),
              StatusIs(Code::kInvalidArgument, HasSubstr("insecure")));
}

// What a stranger, or a peer with a bug, may send; the service answers with a status and lives on.
class HandoffServiceStranger : public testing::Test {
 protected:
  absl::StatusCode StreamWith(const std::vector<kv::v1::HandoffRequest>& messages) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(Soon()));
    const auto stream = stub_->Handoff(&context);
    for (const kv::v1::HandoffRequest& message : messages) stream->Write(message);
    kv::v1::HandoffResponse response;
    while (stream->Read(&response)) {
    }
    return static_cast<absl::StatusCode>(stream->Finish().error_code());
  }

  Side side_;
  std::unique_ptr<kv::v1::HandoffService::Stub> stub_ = kv::v1::HandoffService::NewStub(
      grpc::CreateChannel(side_.address(), grpc::InsecureChannelCredentials()));
};

TEST_F(HandoffServiceStranger, IsRefusedWithoutALink) {
  kv::v1::HandoffRequest open;
  open.mutable_open()->set_link_id(1);
  EXPECT_EQ(StreamWith({open}), Code::kUnavailable);
  kv::v1::HandoffRequest reserve;
  reserve.mutable_reserve()->mutable_id()->set_request_id("r");
  EXPECT_EQ(StreamWith({reserve}), Code::kInvalidArgument);
  EXPECT_EQ(StreamWith({{}}), Code::kInvalidArgument);
}

TEST_F(HandoffServiceStranger, GetsAnErrorForBadMessagesOnALink) {
  kv::v1::LinkRequest offer;
  grpc::ClientContext context;
  kv::v1::LinkResponse grant;
  EXPECT_EQ(stub_->Link(&context, offer, &grant).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);

  offer.set_protocol_version(1);
  offer.set_incarnation(3);
  offer.add_transports("tcp");
  KvLayout long_name = SmallLayout();
  long_name.dtype = std::string(1025, 'f');
  *offer.mutable_layout() = ToProto(long_name);
  grpc::ClientContext second;
  const grpc::Status refused = stub_->Link(&second, offer, &grant);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("layout.dtype of 1025 bytes"));
  *offer.mutable_layout() = ToProto(SmallLayout());
  kv::v1::HandoffRequest long_id;
  long_id.mutable_reserve()->mutable_id()->set_request_id(std::string(129, 'r'));
  kv::v1::HandoffRequest no_id;
  no_id.mutable_renew();
  for (const kv::v1::HandoffRequest& bad : {long_id, no_id, kv::v1::HandoffRequest()}) {
    grpc::ClientContext again;
    const grpc::Status linked = stub_->Link(&again, offer, &grant);
    ASSERT_TRUE(linked.ok()) << linked.error_message();
    kv::v1::HandoffRequest open;
    open.mutable_open()->set_link_id(grant.link_id());
    open.mutable_open()->set_epoch(grant.epoch());
    EXPECT_EQ(StreamWith({open, bad}), Code::kInvalidArgument);
  }
  EXPECT_EQ(grant.epoch(), 3u) << "each link of one pair has a newer epoch";
}

}  // namespace
}  // namespace tandem
