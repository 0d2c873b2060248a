// Several outputs of one prompt, over two workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/worker/engine/pair.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(EngineForkHandoff, SplitEqualsUnifiedForEachOutput) {
  Pair pair;
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 6; ++handle) {
    requests.push_back(Several(handle, 1 + handle % 4, 1 + handle * 23 % 90, 12));
    requests.back().prompt_logprobs = 1;
    if (handle % 2 == 0) Adjust(requests.back(), handle);
    pair.Submit(requests.back());
  }
  pair.RunDry();
  for (const EngineRequest& request : requests) {
    const Heard& p = pair.prefill.sink->heard[request.handle];
    const Heard& d = pair.decode.sink->heard[request.handle];
    EXPECT_EQ(p.prompt_logprobs, ExpectedAnswer(request).prompt_logprobs);
    ASSERT_TRUE(p.handoff.has_value()) << p.error;
    for (uint32_t i = 0; i < request.outputs; ++i) {
      SCOPED_TRACE(testing::Message() << "request " << request.handle << ", output " << i);
      const ToyAnswer want = ExpectedAnswer(request, i);
      EXPECT_THAT(p.output(i).token_ids, ElementsAre(want.token_ids[0]));
      EXPECT_THAT(p.output(i).logprobs, ElementsAre(want.logprobs[0]));
      EXPECT_EQ(d.output(i).token_ids, want.token_ids);
      EXPECT_EQ(d.output(i).logprobs,
                (std::vector<PositionLogprobs>(want.logprobs.begin() + 1, want.logprobs.end())));
      EXPECT_TRUE(d.output(i).finish.has_value());
    }
  }
  pair.ExpectAllFree();
}

TEST(EngineForkHandoff, ThePromptsBlocksTravelOnceAndAreSharedThere) {
  Pair pair;
  pair.Submit(Several(1, 3, 40, 60));
  pair.prefill.Turn();
  pair.decode.Turn();
  EXPECT_EQ(pair.prefill.pool->blocks() - pair.prefill.core->load().blocks_free, 3u);
  EXPECT_EQ(pair.decode.pool->blocks() - pair.decode.core->load().blocks_free, 2u + 3 * 5);
  pair.RunDry();
  EXPECT_EQ(pair.prefill.sink->heard[1].handoff->bytes,
            3 * pair.prefill.model.kv()->layout().slice_bytes());
  EXPECT_EQ(pair.decode.model.kv()->copied, 2u);
  EXPECT_EQ(pair.decode.model.rows, 3 * 59);
  EXPECT_EQ(pair.prefill.model.rows, 40);
  pair.ExpectAllFree();
}

TEST(EngineForkHandoff, OutputsThatEndWithTheirFirstTokenDoNotDecode) {
  EngineRequest request = Several(1, 4, 20, 8);
  std::vector<int32_t> firsts;
  for (uint32_t i = 0; i < 4; ++i) firsts.push_back(ExpectedAnswer(request, i).token_ids[0]);
  for (uint32_t ended = 0; ended < 4; ++ended) {
    SCOPED_TRACE(ended);
    Pair pair;
    request.stop_ids = {firsts[ended]};
    pair.Submit(request);
    pair.RunDry();
    const Heard& p = pair.prefill.sink->heard[1];
    const Heard& d = pair.decode.sink->heard[1];
    EXPECT_TRUE(p.handoff.has_value());
    for (uint32_t i = 0; i < 4; ++i) {
      const ToyAnswer want = ExpectedAnswer(request, i);
      EXPECT_EQ(p.output(i).finish.has_value(), want.token_ids.size() == 1);
      EXPECT_EQ(d.output(i).token_ids, want.token_ids);
      EXPECT_TRUE(d.output(i).finish.has_value());
    }
    EXPECT_EQ(p.output(ended).finish, d.output(ended).finish);
    pair.ExpectAllFree();
  }
}

TEST(EngineForkHandoff, WhereAllEndAtThePrefillNothingIsDecoded) {
  Pair pair;
  pair.Submit(Several(1, 4, 20, 1));
  pair.RunDry();
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(pair.prefill.sink->heard[1].output(i).finish->reason, FinishReason::kLength);
    EXPECT_EQ(pair.decode.sink->heard[1].output(i).finish->reason, FinishReason::kLength);
  }
  EXPECT_TRUE(pair.prefill.sink->heard[1].handoff.has_value());
  EXPECT_EQ(pair.decode.core->step_number(), 0u);
  pair.ExpectAllFree();
}

// A stop string in its first token: the router hears that token from the prefill worker.
TEST(EngineForkHandoff, AnOutputThatIsCancelledBeforeTheKvIsThereIsNotDecoded) {
  Pair pair;
  const EngineRequest request = Several(1, 3, 40, 8);
  pair.Submit(request);
  pair.decode.Turn();
  pair.prefill.core->CancelOutput(CoreHarness::kSession, 1, 1);
  pair.decode.core->CancelOutput(CoreHarness::kSession, 1, 1);
  pair.RunDry();
  const Heard& d = pair.decode.sink->heard[1];
  EXPECT_EQ(d.output(1).finish->reason, FinishReason::kCancelled);
  EXPECT_EQ(d.output(1).token_ids.size(), 1u);
  for (const uint32_t i : {0u, 2u}) {
    EXPECT_EQ(d.output(i).token_ids, ExpectedAnswer(request, i).token_ids);
  }
  EXPECT_EQ(pair.decode.model.rows, 2 * 7);
  pair.ExpectAllFree();
}

TEST(EngineForkHandoff, CancelEndsBothSidesInAnyState) {
  EngineRequest request = Several(1, 3, 60, 8);
  request.stop_ids = {ExpectedAnswer(request, 1).token_ids[0]};
  for (int turns = 0; turns < 10; ++turns) {
    for (const bool deliver : {false, true}) {
      SCOPED_TRACE(testing::Message() << turns << (deliver ? ", delivered" : ""));
      Pair pair;
      pair.Submit(request);
      for (int i = 0; i < turns; ++i) {
        pair.prefill.Turn();
        pair.decode.Turn();
        if (deliver) pair.handoff.Deliver();
      }
      pair.prefill.core->Cancel(CoreHarness::kSession, 1);
      pair.decode.core->Cancel(CoreHarness::kSession, 1);
      pair.RunDry();
      EXPECT_TRUE(pair.prefill.sink->heard[1].over(Role::kPrefill));
      EXPECT_TRUE(pair.decode.sink->heard[1].over(Role::kDecode));
      pair.ExpectAllFree();
    }
  }
}

TEST(EngineForkHandoff, AReassignedPrefillTellsTheNextWorkerOfAllOutputs) {
  for (const int turns : {1, 4}) {
    Pair pair;
    const EngineRequest request = Several(1, 3, 60, 8);
    pair.SubmitAndReassign(request, turns);
    pair.RunDry();
    for (uint32_t i = 0; i < 3; ++i) {
      EXPECT_EQ(pair.decode.sink->heard[1].output(i).token_ids,
                ExpectedAnswer(request, i).token_ids);
    }
    pair.ExpectAllFree();
  }
}

TEST(EngineForkHandoff, WorkersThatDisagreeAboutTheOutputsAreAnAlarm) {
  struct Case {
    uint32_t prefill, decode;
    std::string says;
  };
  for (const auto& [p, d, says] :
       std::vector<Case>{{2, 3, "want the first tokens of 3 outputs, got 2"},
                         {3, 1, "want the first tokens of 1 outputs"}}) {
    Pair pair;
    EngineRequest request = Several(1, p, 20, 8);
    request.role = Role::kPrefill;
    pair.prefill.Submit(request);
    request.role = Role::kDecode;
    request.outputs = d;
    pair.decode.Submit(request);
    pair.RunDry();
    EXPECT_THAT(pair.decode.sink->heard[1].error,
                StatusIs(absl::StatusCode::kInternal, HasSubstr(says)));
    EXPECT_THAT(pair.decode.sink->heard[1].token_ids, IsEmpty());
    pair.ExpectAllFree();
  }
}

// The last of the outputs is the one that differs: nothing is told of those before it.
TEST(EngineForkHandoff, OneOutputsDisagreementIsLookedAtBeforeAnyIsTold) {
  Pair pair;
  EngineRequest request = Several(1, 3, 20, 8);
  request.role = Role::kPrefill;
  pair.prefill.Submit(request);
  request.role = Role::kDecode;
  const int32_t last = ExpectedAnswer(request, 2).token_ids[0];
  ASSERT_NE(last, ExpectedAnswer(request, 0).token_ids[0]);
  ASSERT_NE(last, ExpectedAnswer(request, 1).token_ids[0]);
  request.stop_ids = {last};
  pair.decode.Submit(request);
  pair.RunDry();
  EXPECT_THAT(pair.decode.sink->heard[1].error,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("disagree")));
  EXPECT_THAT(pair.decode.sink->heard[1].token_ids, IsEmpty());
  pair.ExpectAllFree();
}

}  // namespace
}  // namespace tandem
