// Priorities: who stands before whom in the line, and who makes way for whom.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"
#include "tests/worker/engine/pair.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

EngineRequest Ranked(uint64_t handle, int32_t priority, uint32_t max_tokens = 4) {
  EngineRequest request = ToyRequest(handle, 10, max_tokens);
  request.priority = priority;
  return request;
}

struct Ranking {
  explicit Ranking(uint32_t places, uint32_t blocks = 64)
      : h({.blocks = blocks}, {.max_sequences = places, .max_batch_tokens = 64}) {}
  // Those that have begun since the last call.
  std::vector<uint64_t> Begun() {
    std::vector<uint64_t> handles;
    for (const auto& [handle, heard] : h.sink->heard) {
      if (!heard.token_ids.empty() && seen.insert(handle).second) handles.push_back(handle);
    }
    return handles;
  }
  // In which order the requests get their first tokens.
  std::vector<uint64_t> RunDry() {
    std::vector<uint64_t> order;
    do {
      for (const uint64_t handle : Begun()) order.push_back(handle);
    } while (h.Turn());
    return order;
  }
  void ExpectAnswers(const std::vector<EngineRequest>& requests) {
    for (const EngineRequest& request : requests) {
      EXPECT_EQ(h.sink->heard[request.handle].token_ids, ExpectedAnswer(request).token_ids)
          << request.handle;
    }
    EXPECT_EQ(h.core->load().blocks_free, h.pool->blocks());
    EXPECT_THAT(h.sink->faults, IsEmpty());
    EXPECT_THAT(h.model.faults, IsEmpty());
  }
  CoreHarness h;
  std::set<uint64_t> seen;
};

TEST(EnginePriority, AHigherOneStandsBeforeALowerAndEqualOnesInOrderOfArrival) {
  Ranking r(1);
  r.h.Submit(Ranked(1, 100));
  ASSERT_TRUE(r.h.Turn());
  for (const auto& [handle, priority] : {std::pair(2u, 0), {3u, 5}, {4u, -5}, {5u, 5}, {6u, 100}}) {
    r.h.Submit(Ranked(handle, priority));
  }
  EXPECT_THAT(r.RunDry(), ElementsAre(1, 6, 3, 5, 2, 4));
}

TEST(EnginePriority, EachLevelIsWorthASecondInTheLineSoThatNobodyStarves) {
  Ranking r(1);
  r.h.Submit(Ranked(1, 100, 8));
  ASSERT_TRUE(r.h.Turn());
  r.h.Submit(Ranked(2, 0));
  r.h.clock.Advance(absl::Seconds(9));
  r.h.Submit(Ranked(3, 10));
  r.h.clock.Advance(absl::Seconds(2));
  r.h.Submit(Ranked(4, 10));
  EXPECT_THAT(r.RunDry(), ElementsAre(1, 3, 2, 4));
}

TEST(EnginePriority, TheFirstInLineDisplacesTheLowestAndLatestWhereAPlaceIsLacking) {
  Ranking r(3);
  std::vector<EngineRequest> requests = {Ranked(1, 0, 40), Ranked(2, -1, 40), Ranked(3, -1, 40)};
  for (const EngineRequest& request : requests) r.h.Submit(request);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(r.h.Turn());
  requests.push_back(Ranked(4, 2, 10));
  r.h.Submit(requests.back());
  const size_t told = r.h.sink->heard[3].token_ids.size();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(r.h.Turn());
  EXPECT_EQ(r.h.sink->heard[3].token_ids.size(), told) << "it has made way";
  EXPECT_GT(r.h.sink->heard[4].token_ids.size(), 0u);
  EXPECT_EQ(r.h.core->load().waiting, 1u);
  r.RunDry();
  r.ExpectAnswers(requests);
}

TEST(EnginePriority, TheFirstInLineDisplacesWhereBlocksAreLacking) {
  Ranking r(8, /*blocks=*/8);
  std::vector<EngineRequest> requests = {Ranked(1, 3, 60), Ranked(2, 0, 40)};  // 5 blocks, and 4
  requests[1].max_tokens = 30;                                                 // 3
  for (const EngineRequest& request : requests) r.h.Submit(request);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(r.h.Turn());
  requests.push_back(Ranked(3, 1, 30));  // 3
  r.h.Submit(requests.back());
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(r.h.Turn());
  EXPECT_EQ(r.h.sink->heard[3].token_ids.size(), 1u);
  EXPECT_FALSE(r.h.sink->heard[2].finish.has_value());
  requests.push_back(Ranked(4, 2, 100));  // 7: not even with the blocks of the third
  r.h.Submit(requests.back());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(r.h.Turn());
  EXPECT_EQ(r.h.sink->heard[3].token_ids.size(), 4u) << "displaced for nothing";
  r.RunDry();
  r.ExpectAnswers(requests);
}

TEST(EnginePriority, ALongWaitIsNoReasonToDisplace) {
  Ranking r(1);
  const std::vector<EngineRequest> requests = {Ranked(1, 0, 40), Ranked(2, 0, 4),
                                               Ranked(3, -50, 4)};
  for (const EngineRequest& request : requests) r.h.Submit(request);
  ASSERT_TRUE(r.h.Turn());
  r.h.clock.Advance(absl::Seconds(29));
  EXPECT_THAT(r.RunDry(), ElementsAre(1, 2, 3));
  r.ExpectAnswers(requests);
}

TEST(EnginePriority, NobodyIsDisplacedMoreOftenThanThePrioritiesDiffer) {
  Ranking r(1);
  std::vector<EngineRequest> requests = {Ranked(1, 0, 30)};
  r.h.Submit(requests[0]);
  int displaced = 0;
  for (uint64_t handle = 2; handle < 20; ++handle) {
    const size_t told = r.h.sink->heard[1].token_ids.size();
    for (int i = 0; i < 2000 && r.h.sink->heard[1].token_ids.size() == told; ++i) {
      ASSERT_TRUE(r.h.Turn());
    }
    requests.push_back(Ranked(handle, 3));
    r.h.Submit(requests.back());
    ASSERT_TRUE(r.h.Turn());
    ASSERT_TRUE(r.h.Turn());
    if (r.h.sink->heard[1].finish) break;
    displaced += r.h.sink->heard[handle].token_ids.size() > 0;
  }
  EXPECT_EQ(displaced, 3);
  r.RunDry();
  r.ExpectAnswers(requests);
}

TEST(EnginePriority, TheDisplacedStandRightBehindWhoeverDisplacedThem) {
  Ranking r(1);
  const std::vector<EngineRequest> requests = {Ranked(1, 0, 20), Ranked(2, 5), Ranked(3, 5),
                                               Ranked(4, 0)};
  r.h.Submit(requests[0]);
  ASSERT_TRUE(r.h.Turn());
  r.h.clock.Advance(absl::Seconds(60));  // its place in the line would now be the first
  r.h.Submit(requests[1]);
  ASSERT_TRUE(r.h.Turn());
  ASSERT_TRUE(r.h.Turn());
  EXPECT_EQ(r.h.sink->heard[2].token_ids.size(), 1u);
  r.h.Submit(requests[3]);
  r.h.clock.Advance(absl::Seconds(6));
  r.h.Submit(requests[2]);
  // The second ends, the first goes on, and is not displaced by the third before it is in line.
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(r.h.Turn());
  ASSERT_TRUE(r.h.sink->heard[2].finish.has_value());
  const size_t told = r.h.sink->heard[1].token_ids.size();
  ASSERT_TRUE(r.h.Turn());
  EXPECT_EQ(r.h.sink->heard[1].token_ids.size(), told + 1);
  r.RunDry();
  r.ExpectAnswers(requests);
}

TEST(EnginePriority, OfTwoThatWereDisplacedOneAfterTheOtherTheHigherGoesOnFirst) {
  Ranking r(1);
  const std::vector<EngineRequest> requests = {Ranked(1, 0, 20), Ranked(2, 5, 10), Ranked(3, 10)};
  for (const EngineRequest& request : requests) {
    r.h.Submit(request);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(r.h.Turn());
    ASSERT_FALSE(r.h.sink->heard[request.handle].token_ids.empty());
    // So the first's own place is before the second's, and it is moved to that one.
    if (request.handle == 1) r.h.clock.Advance(absl::Seconds(60));
  }
  const size_t told = r.h.sink->heard[1].token_ids.size();
  for (int i = 0; i < 100 && !r.h.sink->heard[2].finish; ++i) ASSERT_TRUE(r.h.Turn());
  ASSERT_TRUE(r.h.sink->heard[2].finish.has_value());
  EXPECT_EQ(r.h.sink->heard[1].token_ids.size(), told) << "it went before the higher one";
  r.RunDry();
  r.ExpectAnswers(requests);
}

// The blocks that the first in line counts on sharing are not room for the others that it needs.
TEST(EnginePriority, NobodyIsDisplacedForBlocksThatTheFirstWouldShareWithIt) {
  Ranking r(8, /*blocks=*/12);
  std::vector<EngineRequest> requests = {ToyRequest(1, 64, 16), Ranked(2, 9, 60)};  // 5 blocks each
  for (const EngineRequest& request : requests) r.h.Submit(request);
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(r.h.Turn());
  ASSERT_FALSE(r.h.sink->heard[1].token_ids.empty());
  requests.push_back(Ranked(3, 5, 80));  // 9 blocks, 3 of them the prompt's of the first request
  requests[2].prompt = requests[0].prompt;
  r.h.Submit(requests[2]);
  for (int i = 0; i < 4; ++i) {
    const size_t told = r.h.sink->heard[1].token_ids.size();
    ASSERT_TRUE(r.h.Turn());
    EXPECT_EQ(r.h.sink->heard[1].token_ids.size(), told + 1) << "it was displaced for nothing";
  }
  r.RunDry();
  r.ExpectAnswers(requests);
}

TEST(EnginePriority, WhoHandsOverIsNotDisplaced) {
  CoreHarness decode;
  Ranking r(1);
  FakeHandoff handoff(r.h.model.kv(), decode.model.kv());
  r.h.Connect(&handoff, nullptr);
  decode.Connect(nullptr, &handoff);
  EngineRequest low = Ranked(1, -100);
  low.role = Role::kPrefill;
  r.h.Submit(low);
  ASSERT_TRUE(r.h.Turn());
  r.h.Submit(Ranked(2, 100));
  EXPECT_FALSE(r.h.Turn());
  EXPECT_THAT(r.h.sink->heard[2].token_ids, IsEmpty());
  low.role = Role::kDecode;
  decode.Submit(low);
  RunSplit(r.h, decode, handoff, 20);
  EXPECT_EQ(decode.sink->heard[1].token_ids, ExpectedAnswer(low).token_ids);
  r.ExpectAnswers({Ranked(2, 100)});
}

}  // namespace
}  // namespace tandem
