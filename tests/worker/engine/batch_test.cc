#include "worker/engine/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/engine/rate.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using Logits = BatchBuilder::Logits;

TEST(BatchBuilder, LaysSequencesSideBySide) {
  BatchBuilder builder(64, 4, 16);
  const std::vector<BlockId> blocks = {BlockId{5}, BlockId{6}, BlockId{7}};
  EXPECT_EQ(builder.Add({10, 11, 12}, 15, blocks, Logits::kAll), 0u);
  EXPECT_EQ(builder.Add({20, 21}, 0, blocks, Logits::kNone), 3u);
  EXPECT_EQ(builder.Add({30, 31}, 30, blocks, Logits::kLast), 3u);
  const Batch batch = builder.batch();
  EXPECT_THAT(batch.token_ids, ElementsAre(10, 11, 12, 20, 21, 30, 31));
  EXPECT_THAT(batch.logit_rows, ElementsAre(0, 1, 2, 6));
  ASSERT_EQ(batch.slices.size(), 3u);
  EXPECT_EQ(batch.slices[0].blocks.size(), 2u) << "positions 15 to 17 end in the second block";
  EXPECT_EQ(batch.slices[1].blocks.size(), 1u);
  EXPECT_EQ(batch.slices[1].first_row, 3);
  EXPECT_EQ(batch.slices[2].blocks.size(), 2u);
  EXPECT_EQ(batch.slices[2].position, 30);
}

TEST(BatchBuilder, KeepsItsMemoryFromStepToStep) {
  BatchBuilder builder(64, 4, 16);
  const int32_t* data = nullptr;
  const std::vector<int32_t> tokens(16);
  const std::vector<BlockId> blocks(1);
  for (int step = 0; step < 3; ++step) {
    builder.Clear();
    for (int i = 0; i < 4; ++i) builder.Add(tokens, 0, blocks, Logits::kAll);
    if (data == nullptr) data = builder.batch().token_ids.data();
    EXPECT_EQ(builder.batch().token_ids.data(), data);
    EXPECT_EQ(builder.batch().token_ids.size(), 64u);
  }
}

TEST(RateMeter, FollowsTheLastSecondsAndForgets) {
  RateMeter meter;
  absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  EXPECT_EQ(meter.PerSecond(now), 0);
  for (int i = 0; i < 100; ++i, now += absl::Seconds(1))
    meter.Add(10, absl::Milliseconds(100), now);
  EXPECT_NEAR(meter.PerSecond(now), 100, 0.1);
  for (int i = 0; i < 40; ++i, now += absl::Seconds(1)) meter.Add(10, absl::Milliseconds(500), now);
  EXPECT_NEAR(meter.PerSecond(now), 20, 0.5);
  EXPECT_EQ(meter.PerSecond(now + absl::Seconds(20)), 0);
  EXPECT_NEAR(meter.Last(), 20, 0.5);
}

}  // namespace
}  // namespace tandem
