#include "worker/sampler/philox.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

// Known answers published with Random123 (kat_vectors, philox4x32 10).
TEST(Philox, GivesThePublishedKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, AUniformNumberUsesTheFirstTwoWordsAndStaysBelowOne) {
  EXPECT_EQ(UniformAt(0, 0, 0),
            static_cast<double>((uint64_t{0x6627e8d5} << 21) | (0xe169c58d >> 11)) * 0x1p-53);
  for (uint32_t i = 0; i < 10000; ++i) {
    const double u = UniformAt(0x123456789abcdef0, i % 7, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
  }
}

TEST(Philox, SeedOutputAndPositionEachChangeTheNumber) {
  const double base = UniformAt(1, 0, 0);
  EXPECT_NE(base, UniformAt(2, 0, 0));
  EXPECT_NE(base, UniformAt(uint64_t{1} << 32 | 1, 0, 0));
  EXPECT_NE(base, UniformAt(1, 1, 0));
  EXPECT_NE(base, UniformAt(1, 0, 1));
}

}  // namespace
}  // namespace tandem
