#include "kvstore/transport/tcp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/wire.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/kv_frames.h"
#include "tests/support/no_threads.h"
#include "tests/support/status_matchers.h"

// What is special to tcp: its addresses, and a network that breaks between any two bytes.
namespace tandem {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

TEST(TcpAddress, OffLoopbackNeedsTheInsecureOption) {
  EXPECT_THAT(MakeTcpTransport({.listen = "0.0.0.0:0"}),
              StatusIs(Code::kInvalidArgument, HasSubstr("set server.tls.cert_file")));
  EXPECT_THAT(MakeTcpTransport({.listen = "0.0.0.0:0", .insecure = true}),
              StatusIs(Code::kInvalidArgument, HasSubstr("set kv.advertise_host")));
  ASSERT_OK_AND_ASSIGN(
      const auto transport,
      MakeTcpTransport({.listen = "0.0.0.0:0", .advertise_host = "127.0.0.1", .insecure = true}));
  EXPECT_THAT(transport->address(), testing::StartsWith("127.0.0.1:"));
  EXPECT_THAT((*MakeTcpTransport({}))->Connect({.address = "192.0.2.1:1"}, absl::InfiniteFuture()),
              StatusIs(Code::kInvalidArgument, HasSubstr("insecure")));
}

TEST(TcpAddress, BadOnesAreNamed) {
  for (const std::string bad : {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x",
                                "example.com:1", "[::1:1", "[]:1", "1.2.3:4"}) {
    EXPECT_THAT(SocketAddress::Parse(bad), StatusIs(Code::kInvalidArgument, HasSubstr(bad))) << bad;
  }
  EXPECT_EQ(SocketAddress::Parse("localhost:80")->ToString(), "127.0.0.1:80");
  EXPECT_EQ(SocketAddress::Parse("[::1]:80")->ToString(), "[::1]:80");
  EXPECT_TRUE(SocketAddress::Parse("[::1]:80")->IsLoopback());
  EXPECT_FALSE(SocketAddress::Parse("10.0.0.1:80")->IsLoopback());
}

TEST(TcpAddress, APortThatIsTakenIsUnavailable) {
  const auto first = *MakeTcpTransport({});
  EXPECT_THAT(MakeTcpTransport({.listen = first->address()}),
              StatusIs(Code::kUnavailable, HasSubstr(first->address())));
}

class TcpFaults : public testing::Test {
 protected:
  void LinkThroughProxy(const ProxyFaults& faults, uint32_t connections = 1) {
    proxy_.SetFaults(faults);
    receiver_->Retire(link_);
    sink_ = std::make_unique<RecordingSink>();
    link_ = {1, link_.epoch + 1};
    const Bytes16 token = {4, 5, 6};
    ASSERT_THAT(receiver_->Admit({link_, token, 1 << 20, connections}, sink_.get()), IsOk());
    connected_ = sender_->Connect({link_, proxy_.address(), token, 1 << 20, connections},
                                  RealClock()->Now() + absl::Seconds(5));
  }
  // Pushes the payload as frames until one fails, at most `frames`.
  absl::Status PushFrames(int frames) {
    for (int i = 0; i < frames; ++i) {
      RETURN_IF_ERROR(
          (*connected_)->Push(HeaderFor(link_, payload_), {payload_}, {.stall = absl::Seconds(3)}));
    }
    return absl::OkStatus();
  }

  const std::vector<uint8_t> payload_ = RandomBytes(500, 1);
  std::unique_ptr<RecordingSink> sink_ = std::make_unique<RecordingSink>();
  std::unique_ptr<Transport> sender_ = *MakeTcpTransport({});
  std::unique_ptr<Transport> receiver_ =
      *MakeTcpTransport({.connections = 3,
                         .handshake_timeout = absl::Milliseconds(200),
                         .stall_timeout = absl::Milliseconds(200)});
  FaultProxy proxy_{receiver_->address()};
  LinkName link_{1, 0};
  absl::StatusOr<std::unique_ptr<PushConnection>> connected_ = absl::UnknownError("not yet");
};

TEST_F(TcpFaults, AConnectionForWhichThereIsNoThreadIsClosedAndTheNextOneWorks) {
  {
    const NoThreads none;
    EXPECT_THAT(MakeTcpTransport({}), StatusIs(Code::kUnavailable, HasSubstr("no thread")));
    const Bytes16 token = {4, 5, 6};
    link_ = {1, 1};
    ASSERT_THAT(receiver_->Admit({link_, token, 1 << 20}, sink_.get()), IsOk());
    EXPECT_THAT(sender_->Connect({link_, receiver_->address(), token, 1 << 20},
                                 RealClock()->Now() + absl::Seconds(5)),
                StatusIs(Code::kUnavailable));
  }
  LinkThroughProxy({});
  ASSERT_THAT(connected_, IsOk());
  ASSERT_THAT(PushFrames(1), IsOk());
  EXPECT_EQ(sink_->WaitForFrames(1).size(), 1u);
}

TEST_F(TcpFaults, ConnectionsForWhichThereIsNoThreadAreWarnedOfOnceASecond) {
  const absl::Time began = absl::Now();
  testing::internal::CaptureStderr();
  {
    const NoThreads none;
    for (int i = 0; i < 50; ++i) {
      EXPECT_THAT(sender_->Connect({link_, receiver_->address(), {}, 1 << 20},
                                   RealClock()->Now() + absl::Seconds(5)),
                  StatusIs(Code::kUnavailable));
    }
  }
  const std::string log = testing::internal::GetCapturedStderr();
  const auto seconds = static_cast<size_t>(absl::ToDoubleSeconds(absl::Now() - began));
  std::vector<absl::string_view> parts = absl::StrSplit(log, "no thread can be started");
  EXPECT_GE(parts.size(), 2u) << log;
  EXPECT_LE(parts.size(), 2 + seconds) << log;
}

TEST_F(TcpFaults, ShortWritesChangeNothing) {
  LinkThroughProxy({.chunk = 7});
  ASSERT_THAT(connected_, IsOk());
  ASSERT_THAT(PushFrames(20), IsOk());
  const auto records = sink_->WaitForFrames(20);
  ASSERT_EQ(records.size(), 20u);
  for (const auto& record : records) EXPECT_TRUE(record.intact && record.payload == payload_);
}

// One turned bit anywhere: in the hello, in a header, in a payload.
TEST_F(TcpFaults, AFlippedBitIsNeverTakenForData) {
  constexpr size_t kAll = wire::kHelloBytes + 2 * (wire::kFrameBytes + 500);
  size_t intact = 0, broken = 0;
  for (size_t at = 0; at < kAll; at += at < 300 ? 1 : 37) {
    SCOPED_TRACE(at);
    LinkThroughProxy({.flip_at = at});
    if (at < wire::kHelloBytes) {
      EXPECT_FALSE(connected_.ok());
      continue;
    }
    ASSERT_THAT(connected_, IsOk());
    (void)PushFrames(2);  // may succeed: the sender does not hear of it
    connected_->reset();
    EXPECT_THAT(sink_->WaitForClose(), testing::Not(IsOk()));
    for (const auto& record : sink_->WaitForFrames(0)) {
      EXPECT_EQ(record.intact, record.payload == payload_);
      ++(record.intact ? intact : broken);
    }
  }
  EXPECT_GT(broken, 0u);
  EXPECT_GT(intact, 0u);
}

TEST_F(TcpFaults, ACutAtAnyByteEndsBothSides) {
  constexpr size_t kOne = wire::kFrameBytes + 500;
  for (size_t at = 0; at < wire::kHelloBytes + kOne; at += at < 200 ? 3 : 41) {
    SCOPED_TRACE(at);
    LinkThroughProxy({.cut_at = at});
    if (at < wire::kHelloBytes) {
      EXPECT_THAT(connected_, StatusIs(Code::kUnavailable));
      continue;
    }
    if (!connected_.ok()) continue;  // the cut came before the welcome did
    EXPECT_THAT(PushFrames(10'000), StatusIs(Code::kUnavailable));
  }
  EXPECT_EQ(sink_->frames(), 0u) << "no frame was whole";
}

TEST_F(TcpFaults, ACutOfOneConnectionEndsTheWholeLinkOnBothSides) {
  for (const int cut : {0, 1, 2}) {
    for (const uint64_t at : {1, 47, 49, 300, 700, 5000}) {
      SCOPED_TRACE(absl::StrCat("connection ", cut, " at byte ", at));
      LinkThroughProxy({.cut_at = at, .only = cut}, 3);
      if (at < wire::kHelloBytes) {
        EXPECT_THAT(connected_, StatusIs(Code::kUnavailable));
        continue;
      }
      if (!connected_.ok()) continue;  // the cut came before the welcome did
      EXPECT_THAT(PushFrames(10'000), StatusIs(Code::kUnavailable));
      EXPECT_TRUE((*connected_)->broken());
      EXPECT_THAT(PushFrames(1), StatusIs(Code::kUnavailable)) << "by any other connection";
      EXPECT_THAT(sink_->WaitForClose(), testing::Not(IsOk()));
      const size_t frames = sink_->frames();
      receiver_->Retire(link_);
      EXPECT_EQ(sink_->closes(), 1u);
      EXPECT_EQ(sink_->frames(), frames);
    }
  }
}

TEST_F(TcpFaults, AStallInsideAFrameEndsTheReceiversSide) {
  LinkThroughProxy({.stall_at = wire::kHelloBytes + wire::kFrameBytes + 100});
  ASSERT_THAT(connected_, IsOk());
  ASSERT_THAT(PushFrames(1), IsOk());
  EXPECT_THAT(sink_->WaitForClose(), StatusIs(Code::kDeadlineExceeded, HasSubstr("no progress")));
}

TEST_F(TcpFaults, AStalledHandshakeEndsTheConnect) {
  LinkThroughProxy({.stall_at = 20});
  EXPECT_THAT(connected_,
              testing::AnyOf(StatusIs(Code::kDeadlineExceeded), StatusIs(Code::kUnavailable)));
}

TEST_F(TcpFaults, StrangersCostNothingLasting) {
  const SocketAddress address = *SocketAddress::Parse(receiver_->address());
  const PushLimits limits{.stall = absl::Seconds(5)};
  std::vector<Socket> silent;
  for (int i = 0; i < 10; ++i) {
    silent.push_back(*Socket::Connect(address, absl::InfiniteFuture()));
  }
  LinkThroughProxy({});
  ASSERT_THAT(connected_, IsOk()) << "silent strangers do not keep others out";
  std::vector<uint8_t> byte(1);
  for (const Socket& socket : silent) {
    EXPECT_THAT(ReadAll(socket, absl::MakeSpan(byte), limits), StatusIs(Code::kUnavailable))
        << "closed at the handshake timeout, without a word";
  }
  const Socket http = *Socket::Connect(address, absl::InfiniteFuture());
  const std::string get = "GET / HTTP/1.1\r\nHost: a-name-long-enough-to-fill-it\r\n\r\n";
  ASSERT_THAT(WriteAll(http, {reinterpret_cast<const uint8_t*>(get.data()), get.size()}, limits),
              IsOk());
  EXPECT_THAT(ReadAll(http, absl::MakeSpan(byte), limits), StatusIs(Code::kUnavailable));
}

TEST(TcpLimits, LinksAndConnectionsAreBounded) {
  RecordingSink sink;
  EXPECT_THAT(MakeTcpTransport({.connections = 0}), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(MakeTcpTransport({.connections = 17}),
              StatusIs(Code::kInvalidArgument, HasSubstr("want 1 to 16")));
  const auto receiver = *MakeTcpTransport({.max_links = 1, .connections = 2});
  ASSERT_THAT(receiver->Admit({{1, 1}, {}, 10}, &sink), IsOk());
  EXPECT_THAT(receiver->Admit({{3, 1}, {}, 10}, &sink),
              StatusIs(Code::kUnavailable, HasSubstr("all 1 KV links")));
  receiver->Retire({1, 1});
  EXPECT_THAT(receiver->Admit({{3, 1}, {}, 10}, &sink), IsOk());

  const SocketAddress address = *SocketAddress::Parse(receiver->address());
  std::vector<Socket> many;
  std::vector<uint8_t> byte(1);
  for (int i = 0; i < 18; ++i) many.push_back(*Socket::Connect(address, absl::InfiniteFuture()));
  const Socket one_too_many = *Socket::Connect(address, absl::InfiniteFuture());
  EXPECT_THAT(ReadAll(one_too_many, absl::MakeSpan(byte), {.stall = absl::Seconds(3)}),
              StatusIs(Code::kUnavailable));
}

}  // namespace
}  // namespace tandem
