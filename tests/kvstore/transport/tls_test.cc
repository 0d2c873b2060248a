#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kvstore/transport/socket.h"
#include "kvstore/transport/tcp.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/kv_frames.h"
#include "tests/support/kv_tls.h"
#include "tests/support/status_matchers.h"

// tcp with TLS: who gets in, and what everyone else is told.
namespace tandem {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using Code = absl::StatusCode;

using Files = std::shared_ptr<const Certificates>;

class TcpTls : public testing::Test {
 protected:
  TestCertificate Issue(const std::string& names) {
    return MakeTestCertificate({.names = names, .issuer = &ca_});
  }
  Files Watch(const TestFolder& folder, const TestCertificate& own, const std::string& ca,
              std::vector<std::string> peer_names = {}) {
    return WatchFiles(folder.path(), own, ca, std::move(peer_names), absl::Milliseconds(2));
  }
  static std::unique_ptr<Transport> Make(const Files& listen, const Files& connect,
                                         absl::Duration handshake = absl::Seconds(5)) {
    return *MakeTcpTransport(
        {.listen_tls = listen, .connect_tls = connect, .handshake_timeout = handshake});
  }
  // Links and pushes one frame.
  absl::Status Try(Transport& sender, Transport& receiver, const std::string& host = "") {
    return TryAt(receiver.address(), sender, receiver, host);
  }
  absl::Status TryAt(const std::string& address, Transport& sender, Transport& receiver,
                     const std::string& host = "") {
    push_.reset();
    receiver.Retire(link_);
    link_ = {1, link_.epoch + 1};
    RETURN_IF_ERROR(receiver.Admit({link_, {7}, 1 << 20}, &sink_));
    ASSIGN_OR_RETURN(push_, sender.Connect({.link = link_,
                                            .address = address,
                                            .token = {7},
                                            .window_bytes = 1 << 20,
                                            .host = host},
                                           RealClock()->Now() + absl::Seconds(20)));
    return Push();
  }
  absl::Status Push() { return push_->Push(HeaderFor(link_, payload_), {payload_}, {}); }

  const TestFolder there_, here_;  // of the receiver, of the sender
  const TestCertificate ca_ = MakeTestCertificate({.names = "DNS:ca"});
  const TestCertificate own_ = Issue("DNS:decode.example,IP:127.0.0.1,URI:spiffe://t/worker");
  const std::vector<uint8_t> payload_ = RandomBytes(100'000, 1);
  RecordingSink sink_;
  LinkName link_{1, 0};
  std::unique_ptr<PushConnection> push_;
};

TEST_F(TcpTls, CertificatesFromTheAuthorityLetKvThrough) {
  const Files files = Watch(here_, own_, ca_.cert);
  const auto sender = Make(files, files), receiver = Make(files, files);
  EXPECT_TRUE(sender->capabilities().encrypts);
  EXPECT_THAT(Try(*sender, *receiver), IsOk());
  const auto got = sink_.WaitForFrames(1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].intact && got[0].payload == payload_);
  receiver->Retire(link_);
}

TEST_F(TcpTls, OffLoopbackItNeedsNoOtherWord) {
  const Files files = Watch(here_, own_, ca_.cert);
  EXPECT_THAT(MakeTcpTransport({.listen = "0.0.0.0:0",
                                .advertise_host = "127.0.0.1",
                                .listen_tls = files,
                                .connect_tls = files}),
              IsOk());
}

TEST_F(TcpTls, OthersAreRefusedAndBothSidesKnowWhy) {
  const Files good = Watch(there_, own_, ca_.cert);
  const auto receiver = Make(good, good);
  const auto from = [&](const TestCertificate& own, const std::string& ca) {
    const TestFolder folder;
    const Files files = Watch(folder, own, ca);
    const auto sender = Make(good, files);
    return Try(*sender, *receiver);
  };
  const TestCertificate other = MakeTestCertificate();
  EXPECT_THAT(from(own_, other.cert),
              StatusIs(Code::kPermissionDenied, HasSubstr("peer's certificate is refused")));
  EXPECT_THAT(
      from(other, ca_.cert),
      StatusIs(Code::kPermissionDenied, HasSubstr("the peer refuses this process's certificate")));
  EXPECT_THAT(from({}, ca_.cert),
              StatusIs(Code::kPermissionDenied, HasSubstr("certificate required")));
  EXPECT_EQ(sink_.frames(), 0u);
  EXPECT_THAT(from(own_, ca_.cert), IsOk()) << "and this one gets in afterwards";
}

TEST_F(TcpTls, WhatExpiredIsRefused) {
  const TestCertificate old_ca =
      MakeTestCertificate({.names = "DNS:ca", .valid_from = -7200, .valid_until = -3600});
  const TestCertificate own = MakeTestCertificate({.issuer = &old_ca});
  const Files files = Watch(here_, own, old_ca.cert);
  const auto sender = Make(files, files), receiver = Make(files, files);
  EXPECT_THAT(Try(*sender, *receiver),
              StatusIs(Code::kPermissionDenied, HasSubstr("certificate has expired")));
}

TEST_F(TcpTls, TheReceiverHasToHaveTheHostsNameOrOneThatIsConfigured) {
  const Files there = Watch(there_, Issue("DNS:decode.example"), ca_.cert);
  const auto receiver = Make(there, there);
  const auto with = [&](std::vector<std::string> names, const std::string& host) {
    const Files files = Watch(here_, own_, ca_.cert, std::move(names));
    const auto sender = Make(files, files);
    return Try(*sender, *receiver, host);
  };
  EXPECT_THAT(with({}, ""), StatusIs(Code::kPermissionDenied,
                                     HasSubstr("for [decode.example], not for 127.0.0.1")));
  EXPECT_THAT(with({}, "decode.example"), IsOk());
  EXPECT_THAT(with({}, "prefill.example"), StatusIs(Code::kPermissionDenied));
  EXPECT_THAT(with({"decode.example"}, "10.1.2.3"), IsOk());
  EXPECT_THAT(with({"a.example", "b.example"}, "decode.example"),
              StatusIs(Code::kPermissionDenied, HasSubstr("not for a.example or b.example")));
}

TEST_F(TcpTls, TheReceiverAsksForNamesToo) {
  const Files there = Watch(there_, own_, ca_.cert, {"spiffe://t/worker"});
  const auto receiver = Make(there, there);
  const auto as = [&](const TestCertificate& own) {
    const Files files = Watch(here_, own, ca_.cert);
    const auto sender = Make(files, files);
    return Try(*sender, *receiver);
  };
  EXPECT_THAT(as(Issue("DNS:client.example")),
              StatusIs(Code::kPermissionDenied, HasSubstr("refuses this process's certificate")));
  EXPECT_THAT(as(own_), IsOk());
}

TEST_F(TcpTls, OneSideWithoutTlsIsNamedByTheOther) {
  const Files files = Watch(here_, own_, ca_.cert);
  const auto tls = Make(files, files), plain = Make(nullptr, nullptr);
  EXPECT_THAT(Try(*plain, *tls), StatusIs(Code::kFailedPrecondition, HasSubstr("speaks TLS")));
  EXPECT_THAT(Try(*tls, *plain),
              StatusIs(Code::kUnavailable, HasSubstr("does it serve KV without?")));
}

TEST_F(TcpTls, ASilentPeerCostsADeadline) {
  const Files files = Watch(here_, own_, ca_.cert);
  const auto tls = Make(files, files, /*handshake=*/absl::Milliseconds(100));
  const Socket listener = *Socket::Listen(*SocketAddress::Parse("127.0.0.1:0"));
  EXPECT_THAT(tls->Connect({.link = {1, 1}, .address = listener.LocalAddress()->ToString()},
                           RealClock()->Now() + absl::Milliseconds(100)),
              StatusIs(Code::kDeadlineExceeded));
  const Socket stranger =
      *Socket::Connect(*SocketAddress::Parse(tls->address()), absl::InfiniteFuture());
  std::vector<uint8_t> byte(1);
  EXPECT_THAT(ReadAll(stranger, absl::MakeSpan(byte), {.stall = absl::Seconds(20)}),
              StatusIs(Code::kUnavailable))
      << "closed at the handshake timeout";
}

// Of handshake, hello and frame.
TEST_F(TcpTls, AFlippedBitOrACutIsNeverTakenForData) {
  const Files files = Watch(here_, own_, ca_.cert);
  const auto sender = Make(files, files), receiver = Make(files, files);
  FaultProxy proxy{receiver->address()};
  for (uint64_t at = 0; at < 4000; at += 89) {
    SCOPED_TRACE(at);
    proxy.SetFaults({.flip_at = at});
    (void)TryAt(proxy.address(), *sender, *receiver);  // may be told only after the push
    proxy.SetFaults({.cut_at = at});
    EXPECT_THAT(TryAt(proxy.address(), *sender, *receiver),
                AnyOf(IsOk(), StatusIs(Code::kUnavailable)));
  }
  receiver->Retire(link_);
  EXPECT_EQ(sink_.frames(), 0u) << "every flip and every cut was before a frame's end";
}

TEST_F(TcpTls, NewFilesHoldForNewLinksAndALinkGoesOn) {
  const Files there = Watch(there_, own_, ca_.cert), here = Watch(here_, own_, ca_.cert);
  const auto receiver = Make(there, there), sender = Make(here, here);
  ASSERT_THAT(Try(*sender, *receiver), IsOk());
  const TestCertificate other = MakeTestCertificate();
  there_.Write("key.pem", other.key);
  there_.Write("cert.pem", other.cert);
  const absl::Time deadline = RealClock()->Now() + absl::Seconds(20);
  while (there->files()->cert != other.cert && RealClock()->Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_THAT(Push(), IsOk()) << "the link that is there";
  EXPECT_EQ(sink_.WaitForFrames(2).size(), 2u);
  EXPECT_THAT(Try(*sender, *receiver), StatusIs(Code::kPermissionDenied)) << "a new link";
}

}  // namespace
}  // namespace tandem
