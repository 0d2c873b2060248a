#include "worker/model/dequant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

std::vector<float> Values(DType dtype, const std::vector<uint8_t>& stored, size_t count) {
  std::vector<float> out(count);
  Dequantize(dtype, stored.data(), absl::MakeSpan(out));
  return out;
}

TEST(HalfToFloat, IsExactForEveryKindOfNumber) {
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xc000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x3555), 0.333251953125f);
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(HalfToFloat(0x0400), std::ldexp(1.0f, -14));  // the smallest normal one
  EXPECT_EQ(HalfToFloat(0x03ff), std::ldexp(1023.0f, -24));
  EXPECT_EQ(HalfToFloat(0x8001), -std::ldexp(1.0f, -24));
  EXPECT_TRUE(std::signbit(HalfToFloat(0x8000)));
  EXPECT_EQ(HalfToFloat(0x7c00), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(HalfToFloat(0x7e00)));
}

TEST(Dequantize, ReadsTheFloatTypes) {
  EXPECT_THAT(Values(DType::kF32, {0, 0, 0x20, 0x41, 0, 0, 0x80, 0xbf}, 2), ElementsAre(10, -1));
  EXPECT_THAT(Values(DType::kF16, {0x00, 0x3c, 0x00, 0xc0}, 2), ElementsAre(1, -2));
  EXPECT_THAT(Values(DType::kBF16, {0x20, 0x41, 0x80, 0xbf}, 2), ElementsAre(10, -1));
}

TEST(Dequantize, ScalesTheSignedCodesOfQ8) {
  std::vector<uint8_t> block = {0x00, 0x38};  // 0.5
  std::vector<float> want;
  for (int i = 0; i < 32; ++i) {
    const int code = i == 31 ? -128 : 4 * i - 60;
    block.push_back(static_cast<uint8_t>(code));
    want.push_back(0.5f * static_cast<float>(code));
  }
  EXPECT_THAT(Values(DType::kQ8_0, block, 32), ElementsAreArray(want));
}

// Low halves come first: byte j holds elements j and j + 16.
TEST(Dequantize, SplitsTheBytesOfFourBitBlocks) {
  std::vector<uint8_t> q4_0 = {0x00, 0x40};              // 2.0
  std::vector<uint8_t> q4_1 = {0x00, 0x40, 0x00, 0xbc};  // 2.0, -1.0
  std::vector<float> want_0(32), want_1(32);
  for (int j = 0; j < 16; ++j) {
    const int low = j, high = 15 - j;
    q4_0.push_back(static_cast<uint8_t>(high << 4 | low));
    q4_1.push_back(q4_0.back());
    want_0[j] = 2.0f * static_cast<float>(low - 8);
    want_0[j + 16] = 2.0f * static_cast<float>(high - 8);
    want_1[j] = 2.0f * static_cast<float>(low) - 1.0f;
    want_1[j + 16] = 2.0f * static_cast<float>(high) - 1.0f;
  }
  EXPECT_THAT(Values(DType::kQ4_0, q4_0, 32), ElementsAreArray(want_0));
  EXPECT_THAT(Values(DType::kQ4_1, q4_1, 32), ElementsAreArray(want_1));
}

TEST(DequantizeRow, FollowsTheRowOrder) {
  const std::vector<uint8_t> stored = {0x00, 0x3c, 0x00, 0x40, 0x00, 0x42, 0x00, 0x44};
  WeightView view = {.dtype = DType::kF16, .rows = 4, .cols = 1, .data = stored.data(), .bytes = 8};
  view.row_order = {0, 2, 1, 3};
  std::vector<float> rows(4);
  for (int64_t row = 0; row < 4; ++row) {
    DequantizeRow(view, row, absl::MakeSpan(rows).subspan(row, 1));
  }
  EXPECT_THAT(rows, ElementsAre(1, 3, 2, 4));
}

std::vector<uint8_t> BytesOf(const std::string& name) {
  std::ifstream file(std::string(TANDEM_SOURCE_DIR "/tests/golden/blocks/") + name,
                     std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The bytes are random and the values are the gguf package's (tests/golden/blocks.py), bit for bit.
TEST(Dequantize, ReadsEveryBlockTypeAsGgmlDefinesIt) {
  for (const DType dtype : kAllDTypes) {
    if (!IsQuantized(dtype)) continue;
    const std::string name(NameOf(dtype));
    const std::vector<uint8_t> stored = BytesOf(name + ".bin"), bytes = BytesOf(name + ".f32");
    ASSERT_FALSE(stored.empty()) << name;
    std::vector<float> want(bytes.size() / sizeof(float));
    std::memcpy(want.data(), bytes.data(), bytes.size());
    ASSERT_EQ(BytesFor(dtype, static_cast<int64_t>(want.size())), stored.size()) << name;
    const std::vector<float> got = Values(dtype, stored, want.size());
    for (size_t i = 0; i < want.size(); ++i) ASSERT_EQ(got[i], want[i]) << name << " value " << i;
  }
}

}  // namespace
}  // namespace tandem
