#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "base/mutex.h"
#include "kvstore/transport/shm.h"
#include "kvstore/transport/tcp.h"
#include "kvstore/transport/transport.h"
#include "tests/support/kv_frames.h"
#include "tests/support/kv_tls.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/status_matchers.h"

// What every transport must do; one row in INSTANTIATE_TEST_SUITE_P a transport.
namespace tandem {
namespace {

using ::testing::AnyOf;
using Code = absl::StatusCode;

struct TransportUnderTest {
  std::string name;
  std::function<std::unique_ptr<Transport>(const std::string& folder)> make;
  uint32_t connections = 1;  // of each link
};

// Checks frames and keeps none: for more of them than fit into memory.
class CheckingSink final : public FrameSink {
 public:
  void OnFrame(const FrameHeader& header, absl::Span<const uint8_t> landed) override {
    const bool intact = FrameDigest(header, {landed}) == header.digest;
    MutexLock lock(&mu_);
    bytes_ += landed.size();
    if (intact) intact_bytes_ += landed.size();
    changed_.NotifyAll();
  }
  void OnLinkClosed(const LinkName&, const absl::Status&) override {
    MutexLock lock(&mu_);
    closed_ = true;
    changed_.NotifyAll();
  }
  // Waits for so many bytes of any kind, or the link's end.
  uint64_t WaitForIntactBytes(uint64_t bytes) {
    MutexLock lock(&mu_);
    while (bytes_ < bytes && !closed_) changed_.Wait(&mu_);
    return intact_bytes_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  uint64_t bytes_ ABSL_GUARDED_BY(mu_) = 0, intact_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

class TransportConformance : public testing::TestWithParam<TransportUnderTest> {
 protected:
  void SetUp() override {
    sender_ = GetParam().make(folder_.path());
    receiver_ = GetParam().make(folder_.path());
  }
  void TearDown() override {
    sink_.Hold(false);
    push_.reset();
    receiver_.reset();
  }

  void LinkUp(uint64_t window_bytes, LinkName link = {77, 1}, FrameSink* sink = nullptr) {
    endpoint_ = {link, receiver_->address(), {1, 2, 3}, window_bytes, GetParam().connections};
    ASSERT_THAT(receiver_->Admit({link, endpoint_.token, window_bytes, GetParam().connections},
                                 sink != nullptr ? sink : &sink_),
                IsOk());
    auto push = sender_->Connect(endpoint_, RealClock()->Now() + absl::Seconds(5));
    ASSERT_THAT(push, IsOk());
    push_ = *std::move(push);
  }
  // The windows of a link that nobody empties, and more, take no more frames than this.
  int OneTooMany(int frames_a_window) const {
    return static_cast<int>(GetParam().connections) * frames_a_window + 1;
  }
  absl::Status Push(absl::Span<const uint8_t> payload, PushLimits limits = {}) {
    return push_->Push(HeaderFor(endpoint_.link, payload), {payload}, limits);
  }

  const ScratchFolder folder_;
  std::unique_ptr<Transport> sender_, receiver_;
  RecordingSink sink_;
  TransportEndpoint endpoint_;
  std::unique_ptr<PushConnection> push_;
};

// In order on one connection; several overtake each other.
TEST_P(TransportConformance, FramesOfEverySizeArriveIntactAndInOrder) {
  LinkUp(64 << 20);
  std::vector<std::vector<uint8_t>> sent;
  for (const size_t size :
       {1, 2, 7, 111, 4096, 65535, 262144, 262145, 1 << 20, 64 << 20, 64 << 20, 3}) {
    sent.push_back(RandomBytes(size, static_cast<uint32_t>(sent.size())));
    ASSERT_THAT(Push(sent.back()), IsOk()) << size;
  }
  const auto got = sink_.WaitForFrames(sent.size());
  ASSERT_EQ(got.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_TRUE(got[i].intact) << i;
    EXPECT_EQ(got[i].header.tag.link, endpoint_.link);
    EXPECT_EQ(got[i].header.place, (FramePlace{1, 2, 3}));
    const auto in_sent = std::find(sent.begin(), sent.end(), got[i].payload);
    ASSERT_TRUE(in_sent != sent.end()) << i;
    in_sent->clear();  // comes once
    if (GetParam().connections > 1) continue;
    EXPECT_EQ(in_sent - sent.begin(), i);
    EXPECT_EQ(got[i].header.sequence, i);
  }
}

TEST_P(TransportConformance, AGigabyteInFramesOfAllSizesArrivesIntact) {
  CheckingSink sink;
  LinkUp(32 << 20, {77, 1}, &sink);
  const std::vector<uint8_t> bytes = RandomBytes(32 << 20, 1);
  uint64_t pushed = 0;
  for (size_t size = 1, at = 0; pushed < uint64_t{1} << 30; size = size * 3 % bytes.size() + 1) {
    at = (at + 12'345) % (bytes.size() - size + 1);
    ASSERT_THAT(Push(absl::MakeConstSpan(bytes).subspan(at, size)), IsOk());
    pushed += size;
  }
  EXPECT_EQ(sink.WaitForIntactBytes(pushed), pushed);
  push_.reset();
  receiver_->Retire(endpoint_.link);
}

TEST_P(TransportConformance, AsManyThreadsAsConnectionsMayPushAtOnce) {
  LinkUp(100'000);
  std::vector<std::thread> pushers;
  for (uint32_t i = 0; i < GetParam().connections; ++i) {
    pushers.emplace_back([this, i] {
      for (uint32_t frame = 0; frame < 300; ++frame) {
        EXPECT_THAT(Push(RandomBytes(1 + frame * 97, i * 1000 + frame)), IsOk());
      }
    });
  }
  for (std::thread& pusher : pushers) pusher.join();
  const auto got = sink_.WaitForFrames(pushers.size() * 300);
  ASSERT_EQ(got.size(), pushers.size() * 300);
  for (const auto& record : got) EXPECT_TRUE(record.intact);
}

TEST_P(TransportConformance, AFlippedBitInAPayloadIsDeliveredForTheSinkToFind) {
  LinkUp(10'000);
  std::vector<uint8_t> payload = RandomBytes(3'000, 1);
  const FrameHeader header = HeaderFor(endpoint_.link, payload);
  for (const size_t at : {size_t{0}, size_t{1'500}, payload.size() - 1}) {
    payload[at] ^= 1;
    ASSERT_THAT(push_->Push(header, {payload}, {}), IsOk());
    payload[at] ^= 1;
  }
  ASSERT_THAT(push_->Push(header, {payload}, {}), IsOk());
  const auto got = sink_.WaitForFrames(4);
  ASSERT_EQ(got.size(), 4u);
  EXPECT_EQ(std::count_if(got.begin(), got.end(), [](const auto& record) { return record.intact; }),
            1);
}

TEST_P(TransportConformance, APayloadMayBeGatheredFromManyPieces) {
  LinkUp(1 << 20);
  const std::vector<uint8_t> payload = RandomBytes(400'000, 3);
  std::vector<absl::Span<const uint8_t>> pieces;
  std::mt19937 random(testing::UnitTest::GetInstance()->random_seed());
  for (absl::Span<const uint8_t> left = payload; !left.empty();) {
    const size_t size = std::min<size_t>(left.size(), random() % 5'000);  // 0 too
    pieces.push_back(left.first(size));
    left.remove_prefix(size);
  }
  ASSERT_THAT(push_->Push(HeaderFor(endpoint_.link, payload), pieces, {}), IsOk());
  const auto got = sink_.WaitForFrames(1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].payload == payload);
}

TEST_P(TransportConformance, AFrameLargerThanTheWindowIsRefusedAndTheLinkLivesOn) {
  LinkUp(1000);
  EXPECT_THAT(Push(RandomBytes(1001, 1)), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(Push({}), StatusIs(Code::kInvalidArgument));
  EXPECT_FALSE(push_->broken());
  EXPECT_THAT(Push(RandomBytes(1000, 1)), IsOk());
  EXPECT_EQ(sink_.WaitForFrames(1).size(), 1u);
}

TEST_P(TransportConformance, NoMoreThanTheWindowIsInFlight) {
  LinkUp(10'000);
  sink_.Hold(true);
  const std::vector<uint8_t> third = RandomBytes(3'000, 1);
  for (int i = 1; i < OneTooMany(3); ++i) ASSERT_THAT(Push(third), IsOk());
  EXPECT_THAT(Push(third, {.stall = absl::Milliseconds(60)}), StatusIs(Code::kDeadlineExceeded));
  EXPECT_TRUE(push_->broken()) << "a stalled link is made anew";
}

TEST_P(TransportConformance, AFullWindowEmptiesAndPushesGoOn) {
  LinkUp(10'000);
  sink_.Hold(true);
  std::thread release([this] {
    absl::SleepFor(absl::Milliseconds(30));  // not needed for the result: makes a wait likely
    sink_.Hold(false);
  });
  for (int i = 0; i < 300; ++i) EXPECT_THAT(Push(RandomBytes(3'000, i)), IsOk());
  release.join();
  EXPECT_EQ(sink_.WaitForFrames(300).size(), 300u);
}

TEST_P(TransportConformance, ManyTinyFramesDoNotPileUpAnything) {
  LinkUp(1 << 20);
  const std::vector<uint8_t> one = {7};
  for (int i = 0; i < 20'000; ++i) ASSERT_THAT(Push(one), IsOk());
  EXPECT_EQ(sink_.WaitForFrames(20'000).size(), 20'000u);
}

TEST_P(TransportConformance, CancellingAWaitForTheWindowKeepsTheLink) {
  LinkUp(1'000);
  sink_.Hold(true);
  const std::vector<uint8_t> payload = RandomBytes(1'000, 1);
  for (int i = 1; i < OneTooMany(1); ++i) ASSERT_THAT(Push(payload), IsOk());
  const std::atomic<bool> cancelled{true};
  EXPECT_THAT(Push(payload, {.cancelled = &cancelled}), StatusIs(Code::kCancelled));
  EXPECT_FALSE(push_->broken());
  sink_.Hold(false);
  EXPECT_THAT(Push(payload), IsOk());
  EXPECT_EQ(sink_.WaitForFrames(OneTooMany(1)).size(), size_t(OneTooMany(1)));
}

TEST_P(TransportConformance, AStalledPeerCostsADeadlineNeverAHang) {
  LinkUp(64 << 20);
  sink_.Hold(true);
  const std::vector<uint8_t> big = RandomBytes(32 << 20, 1);
  absl::Status status;
  for (int i = 0; i < OneTooMany(2) && status.ok(); ++i) {
    status = Push(big, {.stall = absl::Milliseconds(100)});
  }
  EXPECT_THAT(status, StatusIs(Code::kDeadlineExceeded));
  EXPECT_TRUE(push_->broken());
  EXPECT_THAT(Push(big), StatusIs(Code::kUnavailable)) << "once broken, always broken";
}

TEST_P(TransportConformance, ACancelledPushToAStalledPeerEndsSoon) {
  LinkUp(64 << 20);
  sink_.Hold(true);
  const std::vector<uint8_t> big = RandomBytes(32 << 20, 1);
  const std::atomic<bool> cancelled{true};
  absl::Status status;
  for (int i = 0; i < OneTooMany(2) && status.ok(); ++i) {
    status = Push(big, {.cancelled = &cancelled, .cancel_grace = absl::Milliseconds(20)});
  }
  EXPECT_THAT(status, StatusIs(Code::kCancelled));
}

TEST_P(TransportConformance, BreakEndsARunningPush) {
  LinkUp(64 << 20);
  sink_.Hold(true);
  std::thread breaker([this] {
    absl::SleepFor(absl::Milliseconds(30));  // not needed for the result: lets the push block
    push_->Break();
  });
  const std::vector<uint8_t> big = RandomBytes(32 << 20, 1);
  absl::Status status;
  for (int i = 0; i < OneTooMany(2) && status.ok(); ++i) status = Push(big);
  breaker.join();
  EXPECT_THAT(status, StatusIs(Code::kUnavailable));
}

TEST_P(TransportConformance, TheSinkHearsOnceThatTheSenderWentAway) {
  LinkUp(1'000);
  ASSERT_THAT(Push(RandomBytes(900, 1)), IsOk());
  // The end of one connection may come before what another one has yet to land.
  if (GetParam().connections > 1) (void)sink_.WaitForFrames(1);
  push_.reset();
  EXPECT_THAT(sink_.WaitForClose(), StatusIs(Code::kUnavailable));
  EXPECT_EQ(sink_.frames(), 1u) << "what was pushed before is not lost";
  receiver_->Retire(endpoint_.link);
  EXPECT_EQ(sink_.closes(), 1u);
}

TEST_P(TransportConformance, AReceiverThatDiesEndsThePushes) {
  LinkUp(1'000);
  ASSERT_THAT(Push(RandomBytes(900, 1)), IsOk());
  receiver_.reset();
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) status = Push(RandomBytes(900, i));
  EXPECT_THAT(status, StatusIs(Code::kUnavailable));
}

TEST_P(TransportConformance, AfterRetireTheSinkIsNotCalledAndTheWindowIsGone) {
  LinkUp(1'000);
  ASSERT_THAT(Push(RandomBytes(900, 1)), IsOk());
  ASSERT_EQ(sink_.WaitForFrames(1).size(), 1u);
  receiver_->Retire(endpoint_.link);
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) status = Push(RandomBytes(900, i));
  EXPECT_THAT(status, StatusIs(Code::kUnavailable));
  EXPECT_EQ(sink_.frames(), 1u);
  EXPECT_EQ(sink_.closes(), 0u);
}

TEST_P(TransportConformance, ALinkMayBeRetiredWhileFramesAreUnderWay) {
  for (uint64_t epoch = 1; epoch <= 20; ++epoch) {
    LinkUp(100'000, {77, epoch});
    const size_t before = sink_.frames();
    std::thread pusher([this] {
      while (Push(RandomBytes(30'000, 1)).ok()) {
      }
    });
    EXPECT_GT(sink_.WaitForFrames(before + epoch).size(), before);
    receiver_->Retire(endpoint_.link);
    const size_t after = sink_.frames();
    pusher.join();
    EXPECT_EQ(sink_.frames(), after);
    EXPECT_TRUE(push_->broken());
  }
  EXPECT_EQ(sink_.closes(), 0u);
}

TEST_P(TransportConformance, OnlyTheRightLinkEpochAndTokenGetIn) {
  const LinkName link{77, 2};
  const Bytes16 token = {9, 9};
  const uint32_t connections = GetParam().connections;
  ASSERT_THAT(receiver_->Admit({link, token, 1000, connections}, &sink_), IsOk());
  const auto try_as = [&](LinkName as, Bytes16 with) {
    return sender_->Connect({as, receiver_->address(), with, 1000, connections},
                            RealClock()->Now() + absl::Seconds(5));
  };
  Bytes16 near_miss = token;
  near_miss[15] ^= 1;
  EXPECT_THAT(try_as(link, near_miss), StatusIs(Code::kPermissionDenied));
  EXPECT_THAT(try_as({77, 1}, token), StatusIs(Code::kPermissionDenied)) << "an older epoch";
  EXPECT_THAT(try_as({77, 3}, token), StatusIs(Code::kPermissionDenied));
  EXPECT_THAT(try_as({78, 2}, token), StatusIs(Code::kPermissionDenied));
  EXPECT_THAT(try_as({78, 2}, {}), StatusIs(Code::kPermissionDenied)) << "unknown, token of zeroes";
  ASSERT_OK_AND_ASSIGN(push_, try_as(link, token));
  EXPECT_THAT(try_as(link, token), StatusIs(Code::kPermissionDenied))
      << "the link has all its connections";
}

TEST_P(TransportConformance, ALinkComesBackWithANewEpoch) {
  LinkUp(1'000, {77, 1});
  EXPECT_THAT(receiver_->Admit({{77, 2}, {}, 1000}, &sink_), StatusIs(Code::kAlreadyExists));
  receiver_->Retire({77, 2});  // not this one: nothing happens
  ASSERT_THAT(Push(RandomBytes(900, 1)), IsOk());
  receiver_->Retire({77, 1});
  LinkUp(1'000, {77, 2});
  ASSERT_THAT(Push(RandomBytes(900, 1)), IsOk());
  EXPECT_EQ(sink_.WaitForFrames(2).size(), 2u);
}

TEST_P(TransportConformance, NobodyThereIsUnavailable) {
  const std::string address = receiver_->address();
  receiver_.reset();
  EXPECT_THAT(sender_->Connect({{1, 1}, address, {}, 1000}, RealClock()->Now() + absl::Seconds(5)),
              StatusIs(Code::kUnavailable));
}

TEST_P(TransportConformance, CapabilitiesAreSensible) {
  const TransportCapabilities& can = sender_->capabilities();
  EXPECT_TRUE(absl::StartsWith(GetParam().name, can.name));
  EXPECT_GE(can.max_window_bytes, 64u << 20);
  EXPECT_GT(can.best_frame_bytes, 0u);
  EXPECT_GE(can.best_window_bytes, 4 * can.best_frame_bytes);
  EXPECT_LE(can.best_window_bytes, can.max_window_bytes);
  EXPECT_THAT(receiver_->Admit({{1, 1}, {}, can.max_window_bytes + 1}, &sink_),
              StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(receiver_->Admit({{1, 1}, {}, 0}, &sink_), StatusIs(Code::kInvalidArgument));
  EXPECT_EQ(can.connections, GetParam().connections);
  EXPECT_THAT(receiver_->Admit({{1, 1}, {}, 1000, 0}, &sink_), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(receiver_->Admit({{1, 1}, {}, 1000, can.connections + 1}, &sink_),
              StatusIs(Code::kInvalidArgument));
}

std::unique_ptr<Transport> MakeTls(const std::string& folder, uint32_t connections) {
  static const TestCertificate own = MakeTestCertificate();
  const auto tls = WatchFiles(folder, own, own.cert);
  return *MakeTcpTransport({.listen_tls = tls, .connect_tls = tls, .connections = connections});
}

INSTANTIATE_TEST_SUITE_P(
    Transports, TransportConformance,
    testing::Values(
        TransportUnderTest{
            "tcp", [](const std::string&) { return *MakeTcpTransport({.connections = 1}); }},
        TransportUnderTest{"tcp_by_3",
                           [](const std::string&) { return *MakeTcpTransport({.connections = 3}); },
                           3},
        TransportUnderTest{"tcp_tls", [](const std::string& folder) { return MakeTls(folder, 1); }},
        TransportUnderTest{"tcp_tls_by_3",
                           [](const std::string& folder) { return MakeTls(folder, 3); }, 3},
        TransportUnderTest{
            "shm",
            [](const std::string& folder) { return *MakeShmTransport({.directory = folder}); }}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tandem
