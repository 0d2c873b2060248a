#include "kvstore/transport/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace tandem::wire {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

Bytes16 Counting(uint8_t first) {
  Bytes16 bytes;
  for (uint8_t& byte : bytes) byte = first++;
  return bytes;
}

// Every field holds a value of its own that fills it, so that swapped or cut fields show.
FrameHeader DistinctHeader() {
  FrameHeader header;
  header.tag = {.link = {0x1112131415161718, 0x2122232425262728},
                .request = Counting(0x30),
                .attempt = 0x41424344,
                .generation = 0x5152535455565758,
                .kv_abi = 0x6162636465666768};
  header.place = {.layer = 0x71727374, .first_block = 0x81828384, .blocks = 0x91929394};
  header.payload_bytes = 0xa1a2a3a4;
  header.digest = Counting(0xb0);
  header.sequence = 0xd1d2d3d4d5d6d7d8;
  return header;
}

TEST(Wire, FrameHeadersSurviveTheTrip) {
  const FrameHeader sent = DistinctHeader();
  ASSERT_OK_AND_ASSIGN(const FrameHeader got, DecodeFrame(Encode(sent), uint64_t{1} << 40));
  EXPECT_EQ(got.tag, sent.tag);
  EXPECT_EQ(got.place, sent.place);
  EXPECT_EQ(got.payload_bytes, sent.payload_bytes);
  EXPECT_EQ(got.digest, sent.digest);
  EXPECT_EQ(got.sequence, sent.sequence);
}

TEST(Wire, SmallMessagesSurviveTheTrip) {
  ASSERT_OK_AND_ASSIGN(const Hello hello, DecodeHello(Encode(Hello{{7, 8}, Counting(9)})));
  EXPECT_EQ(hello.link, (LinkName{7, 8}));
  EXPECT_EQ(hello.token, Counting(9));
  for (const bool accepted : {false, true}) {
    ASSERT_OK_AND_ASSIGN(const Welcome welcome, DecodeWelcome(Encode(Welcome{{7, 8}, accepted})));
    EXPECT_EQ(welcome.accepted, accepted);
    EXPECT_EQ(welcome.link, (LinkName{7, 8}));
  }
  ASSERT_OK_AND_ASSIGN(const Consumed consumed, DecodeConsumed(Encode(Consumed{1ull << 40, 3})));
  EXPECT_EQ(consumed.payload_bytes, 1ull << 40);
  EXPECT_EQ(consumed.frames, 3u);
}

// The bytes of a frame header at fixed offsets, as docs/KV.md lists them.
TEST(Wire, FieldsLieWhereTheDocumentSays) {
  const auto bytes = Encode(DistinctHeader());
  const auto at = [&bytes](size_t offset, std::vector<int> want) {
    const std::vector<int> got(bytes.begin() + offset, bytes.begin() + offset + want.size());
    EXPECT_EQ(got, want) << "offset " << offset;
  };
  at(0, {'T', 'D', 'K', 'F', 1, 0, 3, 0});
  at(8, {0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11});
  at(16, {0x28, 0x27});
  at(24, {0x30, 0x31});
  at(40, {0x44, 0x43, 0x42, 0x41});
  at(44, {0x58, 0x57});
  at(52, {0x68, 0x67});
  at(60, {0x74, 0x73, 0x72, 0x71, 0x84, 0x83, 0x82, 0x81, 0x94, 0x93, 0x92, 0x91});
  at(72, {0xa4, 0xa3, 0xa2, 0xa1, 0, 0, 0, 0});
  at(80, {0xb0, 0xb1});
  at(96, {0xd8, 0xd7});
}

TEST(Wire, EveryFlippedBitOfAHeaderIsNoticed) {
  const auto good = Encode(DistinctHeader());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bad = good;
    bad[bit / 8] ^= uint8_t(1u << bit % 8);
    EXPECT_THAT(DecodeFrame(bad, uint64_t{1} << 40), StatusIs(Code::kDataLoss)) << "bit " << bit;
  }
}

TEST(Wire, HostileHeadersAreNamed) {
  const auto good = Encode(DistinctHeader());
  EXPECT_THAT(DecodeFrame(absl::MakeConstSpan(good).first(100), 1),
              StatusIs(Code::kDataLoss, HasSubstr("want 112 bytes, got 100")));
  EXPECT_THAT(DecodeFrame({}, 1), StatusIs(Code::kDataLoss, HasSubstr("got 0")));
  auto bad = good;
  bad[0] = 'G';
  EXPECT_THAT(DecodeFrame(bad, 1), StatusIs(Code::kDataLoss, HasSubstr("magic is 464b4447")));
  bad = good;
  bad[4] = 9;
  EXPECT_THAT(DecodeFrame(bad, 1), StatusIs(Code::kDataLoss, HasSubstr("version is 9, want 1")));
  bad = good;
  bad[6] = 4;
  EXPECT_THAT(DecodeFrame(bad, 1), StatusIs(Code::kDataLoss, HasSubstr("type is 4, want 3")));
}

TEST(Wire, APayloadLongerThanTheWindowIsRefused) {
  FrameHeader header;
  for (const uint64_t size : {uint64_t{0}, uint64_t{1025}, ~uint64_t{0}}) {
    header.payload_bytes = size;  // with a right checksum: the peer itself is hostile
    EXPECT_THAT(DecodeFrame(Encode(header), 1024),
                StatusIs(Code::kDataLoss, HasSubstr("the window takes 1 to 1024")))
        << size;
  }
  header.payload_bytes = 1024;
  EXPECT_THAT(DecodeFrame(Encode(header), 1024), IsOk());
}

TEST(Wire, RandomBytesAreNoMessage) {
  std::mt19937 random(testing::UnitTest::GetInstance()->random_seed());
  for (int i = 0; i < 2'000; ++i) {
    std::vector<uint8_t> bytes(random() % 160);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    EXPECT_FALSE(DecodeFrame(bytes, ~uint64_t{0}).ok());
    EXPECT_FALSE(DecodeHello(bytes).ok());
    EXPECT_FALSE(DecodeWelcome(bytes).ok());
    EXPECT_FALSE(DecodeConsumed(bytes).ok());
  }
}

TEST(FrameDigest, CoversPayloadAndPlaceButNotHowThePayloadIsCut) {
  std::vector<uint8_t> payload(100'000);
  std::mt19937 random(7);
  for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random());
  const FrameHeader header = DistinctHeader();
  const absl::Span<const uint8_t> whole = payload;
  const Bytes16 want = FrameDigest(header, {whole});
  EXPECT_EQ(FrameDigest(header, {whole.first(1), whole.subspan(1, 4999), whole.subspan(5000)}),
            want);

  const auto differs = [&](auto change) {
    FrameHeader other = header;
    change(other);
    EXPECT_NE(FrameDigest(other, {whole}), want);
  };
  differs([](FrameHeader& h) { ++h.tag.link.link_id; });
  differs([](FrameHeader& h) { ++h.tag.link.epoch; });
  differs([](FrameHeader& h) { ++h.tag.request[15]; });
  differs([](FrameHeader& h) { ++h.tag.attempt; });
  differs([](FrameHeader& h) { ++h.tag.generation; });
  differs([](FrameHeader& h) { ++h.tag.kv_abi; });
  differs([](FrameHeader& h) { ++h.place.layer; });
  differs([](FrameHeader& h) { ++h.place.first_block; });
  differs([](FrameHeader& h) { ++h.place.blocks; });
  payload.back() ^= 1;
  EXPECT_NE(FrameDigest(header, {whole}), want);
}

TEST(FrameDigest, NamesAreCutFromSha256) {
  // SHA-256("abc") = ba7816bf 8f01cfea 414140de 5dae2223 ...
  const Bytes16 digest = RequestDigest("abc");
  EXPECT_EQ(digest[0], 0xba);
  EXPECT_EQ(digest[15], 0x23);
  EXPECT_EQ(ShortDigest("abc"), 0xeacf018fbf1678ba);
}

}  // namespace
}  // namespace tandem::wire
