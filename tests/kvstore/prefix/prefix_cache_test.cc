#include "kvstore/prefix/prefix_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

// The keys of a chain whose blocks hold these one-letter tokens.
std::vector<BlockKey> Chain(const std::string& text) {
  std::vector<BlockKey> keys;
  BlockKey key = RootBlockKey("abi", "tenant", "");
  for (const char letter : text) {
    const int32_t token = letter;
    keys.push_back(key = ChainBlockKey(key, {&token, 1}));
  }
  return keys;
}

struct Fixture {
  explicit Fixture(uint32_t blocks)
      : pool(*BlockPool::Create({.blocks = blocks})),
        cache(std::make_unique<PrefixCache>(pool.get())) {}
  // Computes all blocks of a chain that are not here, and holds them.
  std::vector<BlockId> Run(const std::string& text) {
    const std::vector<BlockKey> keys = Chain(text);
    const uint32_t hits = cache->Find(keys).blocks;
    std::vector<BlockId> blocks = cache->Take(absl::MakeSpan(keys).first(hits));
    blocks.resize(keys.size());
    EXPECT_THAT(cache->Acquire(absl::MakeSpan(blocks).subspan(hits)), IsOk());
    for (size_t i = hits; i < keys.size(); ++i) {
      EXPECT_TRUE(cache->Insert(i > 0 ? &keys[i - 1] : nullptr, keys[i], blocks[i]));
    }
    return blocks;
  }
  uint32_t Held(const std::string& text) { return cache->Find(Chain(text)).blocks; }

  std::unique_ptr<BlockPool> pool;
  std::unique_ptr<PrefixCache> cache;
};

TEST(PrefixCache, ASecondRequestThatBeginsAlikeSharesTheBlocks) {
  //      a - b - c        the first
  //           \- x        the second
  Fixture f(8);
  const std::vector<BlockId> first = f.Run("abc");
  const std::vector<BlockId> second = f.Run("abx");
  EXPECT_EQ(first[0], second[0]);
  EXPECT_EQ(first[1], second[1]);
  EXPECT_NE(first[2], second[2]);
  EXPECT_EQ(f.cache->ready(), 4u);
  EXPECT_EQ(f.cache->available(), 4u);
  f.cache->Release(first);
  EXPECT_EQ(f.cache->available(), 5u) << "a and b are still in use";
  f.cache->Release(second);
  EXPECT_EQ(f.cache->available(), 8u);
  EXPECT_EQ(f.cache->ready(), 4u) << "they stay for the next";
}

TEST(PrefixCache, AMatchSaysHowMuchOfItIsInUse) {
  Fixture f(8);
  f.cache->Release(f.Run("abc"));
  EXPECT_EQ(f.cache->Find(Chain("abz")).blocks, 2u);
  EXPECT_EQ(f.cache->Find(Chain("abz")).in_use, 0u);
  const std::vector<BlockId> held = f.Run("a");
  EXPECT_EQ(f.cache->Find(Chain("abc")).blocks, 3u);
  EXPECT_EQ(f.cache->Find(Chain("abc")).in_use, 1u);
  f.cache->Release(held);
}

TEST(PrefixCache, TheLeafThatWasUnusedForLongestGoesFirst) {
  Fixture f(5);
  f.cache->Release(f.Run("ab"));
  f.cache->Release(f.Run("xy"));
  f.cache->Release(f.Run("ab"));  // used once more
  const std::vector<BlockId> held = f.Run("123");
  EXPECT_EQ(f.Held("xy"), 0u);
  EXPECT_EQ(f.Held("ab"), 2u);
  EXPECT_EQ(f.cache->evicted(), 2u);
  f.cache->Release(held);
}

TEST(PrefixCache, ABlockWithChildrenIsNotEvictedBeforeThem) {
  Fixture f(3);
  f.cache->Release(f.Run("abc"));
  std::vector<BlockId> one(1);
  ASSERT_THAT(f.cache->Acquire(absl::MakeSpan(one)), IsOk());
  EXPECT_EQ(f.Held("abc"), 2u) << "the last block went";
  f.cache->Release(one);
}

TEST(PrefixCache, BlocksBelowOneInUseCanBeEvictedAndThoseAboveCannot) {
  Fixture f(4);
  f.cache->Release(f.Run("abcd"));
  const std::vector<BlockId> held = f.Run("ab");
  EXPECT_EQ(f.cache->available(), 2u);
  std::vector<BlockId> three(3), two(2);
  EXPECT_THAT(f.cache->Acquire(absl::MakeSpan(three)),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("want 3, 0 are free and 2 could be evicted")));
  EXPECT_EQ(f.Held("abcd"), 4u) << "the failed call evicted nothing";
  ASSERT_THAT(f.cache->Acquire(absl::MakeSpan(two)), IsOk());
  EXPECT_EQ(f.Held("abcd"), 2u);
  f.cache->Release(two);
  f.cache->Release(held);
}

TEST(PrefixCache, TwoThatComputeTheSameKeepOneInTheCacheAndGoOnBelowIt) {
  Fixture f(8);
  const std::vector<BlockKey> keys = Chain("ab");
  std::vector<BlockId> first(1), second(2);
  ASSERT_THAT(f.cache->Acquire(absl::MakeSpan(first)), IsOk());
  ASSERT_THAT(f.cache->Acquire(absl::MakeSpan(second)), IsOk());
  EXPECT_TRUE(f.cache->Insert(nullptr, keys[0], first[0]));
  EXPECT_TRUE(f.cache->Insert(nullptr, keys[0], second[0]));
  EXPECT_TRUE(f.cache->Insert(&keys[0], keys[1], second[1]));
  EXPECT_EQ(f.cache->ready(), 2u);
  f.cache->Release(first);
  EXPECT_EQ(f.cache->available(), 5u) << "its child is in use";
  f.cache->Release(second);
  EXPECT_EQ(f.cache->available(), 8u);
  EXPECT_EQ(f.pool->free_blocks(), 6u) << "the block that was not inserted is free";
}

TEST(PrefixCache, AChainWithoutItsParentIsNotInserted) {
  Fixture f(4);
  const std::vector<BlockKey> keys = Chain("ab");
  std::vector<BlockId> blocks(1);
  ASSERT_THAT(f.cache->Acquire(absl::MakeSpan(blocks)), IsOk());
  EXPECT_FALSE(f.cache->Insert(&keys[0], keys[1], blocks[0]));
  f.cache->Release(blocks);
  EXPECT_EQ(f.pool->free_blocks(), 4u);
}

TEST(PrefixCache, ItsEndGivesAllBlocksBack) {
  Fixture f(4);
  f.cache->Release(f.Run("abc"));
  EXPECT_EQ(f.pool->free_blocks(), 1u);
  f.cache.reset();
  EXPECT_EQ(f.pool->free_blocks(), 4u);
}

// Random users against what must hold: no block has two owners, a chain found is a chain that was
// inserted, and free, filling and ready blocks are all there are.
TEST(PrefixCache, ARandomWalkLosesNoBlock) {
  const uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  constexpr uint32_t kBlocks = 24;
  Fixture f(kBlocks);
  std::vector<std::vector<BlockId>> users;
  std::vector<std::vector<BlockId>> filling;  // never inserted
  std::map<BlockKey, BlockId> written;        // by key, while it was found ready
  uint64_t promised = 0, brought = 0;         // by releases
  for (int step = 0; step < 20000; ++step) {
    std::string text;
    for (uint32_t i = 0, n = 1 + rng() % 6; i < n; ++i) text += static_cast<char>('a' + rng() % 2);
    const std::vector<BlockKey> keys = Chain(text);
    const PrefixCache::Match match = f.cache->Find(keys);
    const uint32_t cost = static_cast<uint32_t>(keys.size()) - match.in_use;
    if (rng() % 2 == 0 && cost <= f.cache->available()) {
      users.push_back(f.Run(text));
      for (size_t i = 0; i < keys.size(); ++i) {
        if (i < match.blocks) {
          ASSERT_EQ(written[keys[i]], users.back()[i]) << step;
        }
        written[keys[i]] = users.back()[i];
      }
    } else if (rng() % 4 == 0 && f.cache->available() >= 3) {
      filling.emplace_back(3);
      ASSERT_THAT(f.cache->Acquire(absl::MakeSpan(filling.back())), IsOk());
    }
    for (auto* held : {&users, &filling}) {
      if (held->empty() || rng() % 3 > 0) continue;
      std::swap((*held)[rng() % held->size()], held->back());
      const uint32_t before = f.cache->available();
      const uint32_t least = f.cache->AvailableWithout(held->back());
      f.cache->Release(held->back());
      ASSERT_LE(least, f.cache->available() - before) << step;
      promised += least;
      brought += f.cache->available() - before;
      held->pop_back();
    }
    std::set<BlockId> used, private_blocks;
    for (const auto& one : users) used.insert(one.begin(), one.end());
    for (const auto& one : filling) private_blocks.insert(one.begin(), one.end());
    ASSERT_EQ(private_blocks.size(), 3 * filling.size()) << "a block with two owners";
    ASSERT_EQ(f.pool->free_blocks() + private_blocks.size() + f.cache->ready(), kBlocks) << step;
    // Each user holds its whole chain, so no block is pinned for a child's sake alone.
    ASSERT_EQ(f.cache->available() + private_blocks.size() + used.size(), kBlocks) << step;
  }
  for (auto* held : {&users, &filling}) {
    for (const auto& one : *held) f.cache->Release(one);
  }
  EXPECT_EQ(f.cache->available(), kBlocks);
  EXPECT_EQ(promised, brought) << "with whole chains it is no bound, but what comes";
}

}  // namespace
}  // namespace tandem
