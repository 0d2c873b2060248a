#include "kvstore/pool/block_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<BlockPool> PoolOf(uint32_t blocks) {
  return std::move(BlockPool::Create({.blocks = blocks})).value();
}

TEST(BlockPool, NeedsABlock) {
  EXPECT_THAT(BlockPool::Create({.blocks = 0}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(BlockPool, AcquireIsAllOrNothing) {
  auto pool = PoolOf(4);
  std::array<BlockId, 3> a;
  ASSERT_THAT(pool->Acquire(absl::MakeSpan(a)), IsOk());
  std::array<BlockId, 2> b;
  EXPECT_THAT(pool->Acquire(absl::MakeSpan(b)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("want 2 blocks, 1 free")));
  EXPECT_EQ(pool->free_blocks(), 1u);  // the failed call took nothing
}

TEST(BlockPool, ABlockIsFreeOnlyWhenItsLastHolderReleasedIt) {
  auto pool = PoolOf(1);
  std::array<BlockId, 1> a;
  ASSERT_THAT(pool->Acquire(absl::MakeSpan(a)), IsOk());
  pool->Share(a[0]);
  pool->Release(a);
  EXPECT_EQ(pool->free_blocks(), 0u);
  pool->Release(a);
  EXPECT_EQ(pool->free_blocks(), 1u);
}

TEST(BlockPool, GenerationGrowsWithEachAllocationAndOnlyThen) {
  auto pool = PoolOf(1);
  EXPECT_EQ(pool->generation(BlockId{0}), 0u);
  std::array<BlockId, 1> a;
  for (uint64_t round = 1; round <= 3; ++round) {
    ASSERT_THAT(pool->Acquire(absl::MakeSpan(a)), IsOk());
    pool->Share(a[0]);
    EXPECT_EQ(pool->generation(a[0]), round);
    pool->Release(a);
    pool->Release(a);
    EXPECT_EQ(pool->generation(a[0]), round);
  }
}

TEST(BlockPoolDeathTest, ReleasingAFreeBlockIsABug) {
  auto pool = PoolOf(1);
  const std::array<BlockId, 1> never = {BlockId{0}};
  EXPECT_DEATH(pool->Release(never), "only a held block is released");
  EXPECT_DEATH(pool->Share(BlockId{0}), "only a held block is shared");
  EXPECT_DEATH(pool->Share(BlockId{1}), "belongs to this pool");
}

// Random calls beside an obvious model: holders and generations by id.
TEST(BlockPool, RandomWalkAgreesWithAModel) {
  const int seed = testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  constexpr uint32_t kBlocks = 23;
  auto pool = PoolOf(kBlocks);
  std::multiset<BlockId> held;
  std::map<BlockId, uint64_t> generations;
  const auto any_held = [&] { return *std::next(held.begin(), random() % held.size()); };

  for (int step = 0; step < 20'000; ++step) {
    const std::set<BlockId> distinct(held.begin(), held.end());
    const uint32_t free = kBlocks - static_cast<uint32_t>(distinct.size());
    ASSERT_EQ(pool->free_blocks(), free);
    switch (random() % 3) {
      case 0: {
        std::vector<BlockId> got(random() % 8);
        const absl::Status status = pool->Acquire(absl::MakeSpan(got));
        ASSERT_EQ(status.ok(), got.size() <= free) << status;
        if (!status.ok()) break;
        for (const BlockId id : got) {
          ASSERT_EQ(held.count(id), 0u) << "handed out while held";
          held.insert(id);
          ASSERT_EQ(pool->generation(id), ++generations[id]);
        }
        break;
      }
      case 1:
        if (!held.empty()) {
          const BlockId id = any_held();
          pool->Share(id);
          held.insert(id);
        }
        break;
      default:
        for (size_t n = random() % 8; n > 0 && !held.empty(); --n) {
          const BlockId id = any_held();
          pool->Release({&id, 1});
          held.erase(held.find(id));
        }
    }
  }
}

TEST(BlockPool, ThreadsNeverGetTheSameBlock) {
  auto pool = PoolOf(16);
  std::vector<int> owner(16, -1);  // written without a lock: ThreadSanitizer sees a double owner
  const auto work = [&](int me) {
    std::array<BlockId, 4> blocks;
    for (int i = 0; i < 5'000; ++i) {
      if (!pool->Acquire(absl::MakeSpan(blocks)).ok()) continue;
      for (const BlockId id : blocks) owner[static_cast<uint32_t>(id)] = me;
      for (const BlockId id : blocks) ASSERT_EQ(owner[static_cast<uint32_t>(id)], me);
      pool->Release(blocks);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int me = 0; me < 6; ++me) threads.emplace_back(work, me);
  }
  EXPECT_EQ(pool->free_blocks(), 16u);
}

}  // namespace
}  // namespace tandem
