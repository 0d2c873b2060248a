#include "worker/engine/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

using S = SequenceState;

Sequence Make(uint32_t prompt, uint32_t max_tokens, std::vector<int32_t> stop_ids = {}) {
  EngineRequest request = ToyRequest(1, prompt, max_tokens);
  request.stop_ids = std::move(stop_ids);
  return Sequence(1, SessionId{1}, std::move(request), absl::UnixEpoch());
}

void Reach(Sequence& sequence, S state) {
  switch (state) {
    case S::kWaiting:
      return;
    case S::kPrefilling:
    case S::kAwaitingKv:
      return sequence.Enter(state);
    case S::kDecoding:
    case S::kSending:
    case S::kClosing:
      sequence.Enter(S::kPrefilling);
      return sequence.Enter(state);
    case S::kFinished:
      return sequence.Enter(state);
  }
}

// Rows: from; columns: to, in the order of the enum. The table of docs/ENGINE.md.
//                  waiting prefill await decode sending closing finished
constexpr bool kTable[7][7] = {{false, true, true, false, false, false, true},
                               {true, false, false, true, true, true, true},
                               {false, false, false, true, false, true, true},
                               {true, false, false, false, false, false, true},
                               {false, false, false, false, false, true, true},
                               {false, false, false, false, false, false, true},
                               {false, false, false, false, false, false, false}};

TEST(SequenceDeathTest, OnlyTheTransitionsOfTheTableArePossible) {
  GTEST_FLAG_SET(death_test_style, "fast");
  for (int from = 0; from < 7; ++from) {
    for (int to = 0; to < 7; ++to) {
      SCOPED_TRACE(testing::Message() << NameOf(S(from)) << " -> " << NameOf(S(to)));
      Sequence sequence = Make(4, 4);
      Reach(sequence, S(from));
      if (kTable[from][to]) {
        sequence.Enter(S(to));
        EXPECT_EQ(sequence.state(), S(to));
      } else {
        EXPECT_DEATH(sequence.Enter(S(to)), "can't go from this state");
      }
    }
  }
}

TEST(Sequence, NeedsBlocksForPromptAndOutputRoundedUp) {
  EXPECT_EQ(BlocksNeeded(ToyRequest(1, 1, 1), 16), 1u);
  EXPECT_EQ(BlocksNeeded(ToyRequest(1, 15, 1), 16), 1u);
  EXPECT_EQ(BlocksNeeded(ToyRequest(1, 16, 1), 16), 2u);
  EXPECT_EQ(BlocksNeeded(ToyRequest(1, 100, 60), 16), 10u);
  EngineRequest prefill = ToyRequest(1, 16, 1000);
  prefill.role = Role::kPrefill;
  EXPECT_EQ(BlocksNeeded(prefill, 16), 1u) << "the output is decoded elsewhere";
}

TEST(Sequence, AnOutputEndsAtAStopIdOrAtMaxTokens) {
  Sequence stopped = Make(2, 5, {3, 9});
  EXPECT_EQ(stopped.Append(4, false), std::nullopt);
  EXPECT_EQ(stopped.Append(9, false), (SequenceFinish{FinishReason::kStop, 9}));
  Sequence full = Make(2, 2, {3});
  EXPECT_EQ(full.Append(9, false), std::nullopt);
  EXPECT_EQ(full.Append(9, false), (SequenceFinish{FinishReason::kLength, std::nullopt}));
  Sequence both = Make(2, 1, {3});
  EXPECT_EQ(both.Append(3, false), (SequenceFinish{FinishReason::kStop, 3}))
      << "the stop id comes first";
}

TEST(Sequence, CountsWhatIsComputedAndWhatIsNot) {
  Sequence sequence = Make(20, 5);
  EXPECT_EQ(sequence.pending(), 20u);
  sequence.Computed(16);
  EXPECT_EQ(sequence.pending(), 4u);
  EXPECT_EQ(sequence.NextTokens(4), absl::MakeConstSpan(sequence.request().prompt).subspan(16));
  sequence.Computed(4);
  EXPECT_EQ(sequence.pending(), 0u);
  sequence.Append(7, false);
  EXPECT_EQ(sequence.NextTokens(1)[0], 7);
  EXPECT_EQ(sequence.produced(), 1u);
}

}  // namespace
}  // namespace tandem
