#include "worker/model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/gguf_writer.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kF32 = 0;
constexpr uint32_t kQ4_1 = 3;
constexpr uint32_t kQ2_K = 10;

absl::Status StatusOf(const std::vector<uint8_t>& file) { return ParseGguf(file).status(); }

auto Refused(absl::string_view why) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(why)));
}

auto Unsupported(absl::string_view why) {
  return StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(std::string(why)));
}

TEST(Gguf, GivesMetadataAndTensorsOfBothVersions) {
  for (const uint32_t version : {2, 3}) {
    GgufWriter writer(version);
    writer.Int("a.count", 7).Float("a.eps", 0.5f).Text("a.name", "x").Texts("a.list", {"p", "qq"});
    writer.Tensor("m", {64, 3}, kQ4_1, 0).Tensor("v", {5}, kF32, 128);
    const std::vector<uint8_t> file = writer.File(128 + 20);
    ASSERT_OK_AND_ASSIGN(const Gguf gguf, ParseGguf(file));
    EXPECT_EQ(gguf.version, version);
    EXPECT_THAT(gguf.metadata.Int("a.count"), IsOkAndHolds(7));
    EXPECT_THAT(gguf.metadata.NumberOr("a.eps", 0), IsOkAndHolds(0.5));
    EXPECT_THAT(gguf.metadata.StringOr("a.name", ""), IsOkAndHolds("x"));
    EXPECT_THAT(gguf.metadata.Strings("a.list"), IsOkAndHolds(ElementsAre("p", "qq")));
    EXPECT_THAT(gguf.metadata.Int("a.name"), Refused("metadata a.name"));
    EXPECT_THAT(gguf.metadata.Int("a.none"), Refused("a.none is missing"));
    ASSERT_EQ(gguf.tensors.size(), 2);
    EXPECT_THAT(gguf.tensors[0].shape, ElementsAre(3, 64));
    EXPECT_EQ(gguf.tensors[0].dtype, DType::kQ4_1);
    EXPECT_EQ(gguf.tensors[0].bytes.size(), 120);
    EXPECT_EQ(gguf.tensors[1].bytes.end(), file.data() + file.size());
  }
}

TEST(Gguf, RefusesOtherFilesByName) {
  EXPECT_THAT(StatusOf({}), Refused("the file ends at byte 0"));
  EXPECT_THAT(StatusOf({'P', 'K', 3, 4, 0, 0, 0, 0}), Refused("does not begin with \"GGUF\""));
  EXPECT_THAT(StatusOf(GgufWriter(1).File(0)), Unsupported("GGUF version 1"));
  EXPECT_THAT(StatusOf(GgufWriter(0x03000000).File(0)), Unsupported("big-endian"));
  EXPECT_THAT(StatusOf(GgufWriter().Int("split.count", 3).File(0)), Unsupported("3 parts"));
}

TEST(Gguf, RefusesATypeItDoesNotReadAndNamesWhatItDoes) {
  GgufWriter writer;
  writer.Tensor("blk.0.attn_q.weight", {256, 2}, kQ2_K, 0);
  EXPECT_THAT(StatusOf(writer.File(1024)),
              Unsupported("tensor \"blk.0.attn_q.weight\": its type is Q2_K; supported: F32, F16, "
                          "BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q5_K, Q6_K"));
}

TEST(Gguf, EveryTruncationIsAnError) {
  GgufWriter writer;
  writer.Text("general.name", "n").Texts("t", {"a", "b"}).Tensor("m", {8, 2}, kF32, 0);
  const std::vector<uint8_t> whole = writer.File(64);
  ASSERT_THAT(StatusOf(whole), IsOk());
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    SCOPED_TRACE(bytes);
    EXPECT_FALSE(StatusOf({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes)}).ok());
  }
}

TEST(Gguf, RefusesCountsAndLengthsBeyondTheFileWithoutAllocatingForThem) {
  GgufWriter tensors;
  tensors.tensors_ = uint64_t{1} << 60;
  EXPECT_THAT(StatusOf(tensors.File(0)), Refused("the limits are"));
  GgufWriter string;
  string.Key("s", GgufWriter::kString).Raw(uint64_t{1} << 40);
  EXPECT_THAT(StatusOf(string.File(0)), AllOf(Refused("metadata s"), Refused("the limit is")));
  GgufWriter array;
  array.Key("a", GgufWriter::kArray).Raw<uint32_t>(GgufWriter::kFloat32).Raw(uint64_t{1} << 20);
  EXPECT_THAT(StatusOf(array.File(64)), Refused("longer than the rest of the file"));
  GgufWriter texts;
  texts.Key("a", GgufWriter::kArray).Raw<uint32_t>(GgufWriter::kString).Raw(uint64_t{1} << 63);
  EXPECT_THAT(StatusOf(texts.File(64)), Refused("the limit is"));
}

TEST(Gguf, RefusesNestedArraysUnknownTypesAndDuplicates) {
  GgufWriter nested;
  nested.Key("a", GgufWriter::kArray).Raw<uint32_t>(GgufWriter::kArray).Raw<uint64_t>(1);
  EXPECT_THAT(StatusOf(nested.File(64)), Refused("metadata a: arrays in arrays"));
  EXPECT_THAT(StatusOf(GgufWriter().Key("k", 77).File(64)), Refused("unknown value type 77"));
  EXPECT_THAT(StatusOf(GgufWriter().Int("k", 1).Int("k", 1).File(0)), Refused("k appears twice"));
  GgufWriter twice;
  twice.Tensor("m", {1}, kF32, 0).Tensor("m", {1}, kF32, 32);
  EXPECT_THAT(StatusOf(twice.File(64)), Refused("tensor \"m\": the name appears twice"));
}

TEST(Gguf, RefusesShapesThatCannotBe) {
  const auto with = [](const std::vector<uint64_t>& shape, uint32_t type) {
    return StatusOf(GgufWriter().Tensor("m", shape, type, 0).File(4096));
  };
  EXPECT_THAT(with({}, kF32), Refused("tensor \"m\": 0 dimensions"));
  EXPECT_THAT(with({1, 1, 1, 1, 1}, kF32), Refused("5 dimensions"));
  EXPECT_THAT(with({0, 4}, kF32), Refused("an extent of 0"));
  EXPECT_THAT(with({33, 2}, kQ4_1), Refused("no whole number of Q4_1 blocks"));
  const uint64_t big = uint64_t{1} << 32;  // 2^64 bytes: a product that wraps to 0
  EXPECT_THAT(with({big, big}, kF32), Refused("more than 2^62"));
  EXPECT_THAT(with({big, big >> 2}, kF32), Refused("more than 2^62"));
  EXPECT_THAT(with({~uint64_t{0}, 1}, kF32), Refused("an extent of"));
}

TEST(Gguf, RefusesOffsetsThatAreUnalignedOverlapOrLeaveTheFile) {
  const auto at = [](uint64_t first, uint64_t second) {
    GgufWriter writer;
    writer.Tensor("a", {16}, kF32, first).Tensor("b", {16}, kF32, second);
    return StatusOf(writer.File(128));
  };
  EXPECT_THAT(at(0, 64), IsOk());
  EXPECT_THAT(at(64, 0), IsOk());
  EXPECT_THAT(at(0, 65), Refused("tensor \"b\": its offset 65 is no multiple of 32"));
  EXPECT_THAT(at(0, 32), Refused("overlaps another tensor"));
  EXPECT_THAT(at(0, 96), Refused("tensor \"b\": its 64 bytes at 96 lie outside"));
  EXPECT_THAT(at(0, ~uint64_t{0} - 31), Refused("lie outside"));
}

TEST(Gguf, ChecksTheAlignmentItIsTold) {
  EXPECT_THAT(StatusOf(GgufWriter().Int("general.alignment", 48).File(0)), Refused("power of two"));
  EXPECT_THAT(StatusOf(GgufWriter().Int("general.alignment", 0).File(0)), Refused("power of two"));
}

}  // namespace
}  // namespace tandem
