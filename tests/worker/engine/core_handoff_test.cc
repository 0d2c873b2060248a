#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/support/status_matchers.h"
#include "tests/worker/engine/pair.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

EngineRequest Detailed(uint64_t handle, uint32_t prompt, uint32_t max_tokens) {
  EngineRequest request = ToyRequest(handle, prompt, max_tokens);
  request.logprobs = 2;
  request.prompt_logprobs = 1;
  return request;
}

TEST(EngineHandoff, SplitEqualsUnifiedTokenForToken) {
  Pair pair;
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 8; ++handle) {
    requests.push_back(Detailed(handle, 1 + handle * 23 % 90, 12));
    pair.Submit(requests.back());
  }
  pair.RunDry();
  for (const EngineRequest& request : requests) {
    SCOPED_TRACE(request.handle);
    const ToyAnswer want = ExpectedAnswer(request);
    const Heard& p = pair.prefill.sink->heard[request.handle];
    const Heard& d = pair.decode.sink->heard[request.handle];
    EXPECT_EQ(d.token_ids, want.token_ids) << "index 0 is told again by the decode worker";
    EXPECT_THAT(p.token_ids, ElementsAre(want.token_ids[0]));
    EXPECT_EQ(p.prompt_logprobs, want.prompt_logprobs);
    ASSERT_EQ(p.logprobs.size(), 1u);
    EXPECT_EQ(p.logprobs[0], want.logprobs[0]);
    EXPECT_EQ(d.logprobs,
              (std::vector<PositionLogprobs>(want.logprobs.begin() + 1, want.logprobs.end())));
    EXPECT_THAT(d.prompt_logprobs, IsEmpty());
    EXPECT_EQ(d.finish->reason, FinishReason::kLength);
    EXPECT_FALSE(p.finish.has_value());
    ASSERT_TRUE(p.handoff.has_value());
    EXPECT_GT(p.handoff->bytes, 0u);
  }
  pair.ExpectAllFree();
}

TEST(EngineHandoff, PenaltiesAndLeastTokensGoOnBehindTheHandoff) {
  Pair pair;
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 12; ++handle) {
    requests.push_back(ToyRequest(handle, 1 + handle * 23 % 90, 16));
    Adjust(requests.back(), handle);
    pair.Submit(requests.back());
  }
  pair.RunDry();
  for (const EngineRequest& request : requests) {
    SCOPED_TRACE(request.handle);
    const ToyAnswer want = ExpectedAnswer(request);
    EXPECT_EQ(pair.decode.sink->heard[request.handle].token_ids, want.token_ids);
    EXPECT_EQ(pair.decode.sink->heard[request.handle].finish->reason,
              want.stopped ? FinishReason::kStop : FinishReason::kLength);
  }
  pair.ExpectAllFree();
}

TEST(EngineHandoff, OfTwoWorkersTheOneThatMakesTheNextTokenEndsATimeLimit) {
  Pair pair;
  EngineRequest limited = ToyRequest(1, 20, 40);
  limited.time_limit = absl::Seconds(1);
  pair.Submit(limited);
  pair.prefill.clock.Advance(absl::Seconds(1));
  pair.decode.clock.Advance(absl::Seconds(1));
  pair.RunDry();
  EXPECT_EQ(pair.prefill.sink->heard[1].finish->reason, FinishReason::kTimeLimit);
  EXPECT_THAT(pair.prefill.sink->heard[1].token_ids, IsEmpty());
  EXPECT_FALSE(pair.decode.sink->heard[1].finish.has_value()) << "it hears that P gave up";
  // P had begun no handoff; the router, which has the whole answer, cancels D.
  pair.decode.core->Cancel(CoreHarness::kSession, 1);

  limited.handle = 2;
  limited.request_id = "r2";
  pair.Submit(limited);
  for (int i = 0; i < 4; ++i) pair.Turn();
  pair.prefill.clock.Advance(absl::Seconds(1));
  pair.decode.clock.Advance(absl::Seconds(1));
  pair.RunDry();
  EXPECT_TRUE(pair.prefill.sink->heard[2].handoff.has_value());
  EXPECT_FALSE(pair.prefill.sink->heard[2].finish.has_value());
  EXPECT_EQ(pair.decode.sink->heard[2].finish->reason, FinishReason::kTimeLimit);
  EXPECT_GE(pair.decode.sink->heard[2].token_ids.size(), 1u);
  pair.ExpectAllFree();
}

// Of the two reports one says what happened, and the other only that the first worker gave up.
TEST(EngineHandoff, ATimeLimitDuringThePromptIsToldByThePrefillWorker) {
  Pair pair;
  EngineRequest limited = ToyRequest(1, 100, 8);
  limited.time_limit = absl::Seconds(1);
  pair.Submit(limited);
  pair.Turn();
  pair.prefill.clock.Advance(absl::Seconds(1));
  pair.decode.clock.Advance(absl::Seconds(1));
  pair.RunDry();
  ASSERT_TRUE(pair.prefill.sink->heard[1].finish.has_value());
  EXPECT_EQ(pair.prefill.sink->heard[1].finish->reason, FinishReason::kTimeLimit);
  EXPECT_FALSE(pair.decode.sink->heard[1].finish.has_value());
  EXPECT_THAT(pair.decode.sink->heard[1].error, StatusIs(absl::StatusCode::kAborted));
  pair.ExpectAllFree();
}

TEST(EngineHandoff, AFirstTokenThatEndsTheOutputEndsItAtBothWithOneAnswer) {
  Pair pair;
  pair.Submit(ToyRequest(1, 20, 1));
  EngineRequest stopping = ToyRequest(2, 20, 50);
  stopping.stop_ids = ExpectedAnswer(stopping).token_ids;
  stopping.stop_ids.resize(1);
  pair.Submit(stopping);
  pair.RunDry();
  for (uint64_t handle = 1; handle <= 2; ++handle) {
    const Heard& p = pair.prefill.sink->heard[handle];
    const Heard& d = pair.decode.sink->heard[handle];
    EXPECT_EQ(p.token_ids, d.token_ids);
    EXPECT_EQ(p.finish, d.finish);
    ASSERT_TRUE(p.finish.has_value());
    EXPECT_EQ(p.finish->reason, handle == 1 ? FinishReason::kLength : FinishReason::kStop);
    EXPECT_TRUE(p.handoff.has_value());
  }
  EXPECT_EQ(pair.decode.core->step_number(), 0u) << "there was nothing to decode";
  pair.ExpectAllFree();
}

TEST(EngineHandoff, BlocksStayUntilTheHandoffLetsGo) {
  Pair pair;
  pair.Submit(ToyRequest(1, 40, 8));
  pair.prefill.Turn();
  pair.decode.Turn();
  pair.prefill.core->Cancel(CoreHarness::kSession, 1);
  pair.decode.core->Cancel(CoreHarness::kSession, 1);
  pair.prefill.Turn();
  pair.decode.Turn();
  EXPECT_EQ(pair.prefill.sink->heard[1].finish->reason, FinishReason::kCancelled);
  EXPECT_EQ(pair.decode.sink->heard[1].finish->reason, FinishReason::kCancelled);
  EXPECT_LT(pair.prefill.core->load().blocks_free, pair.prefill.pool->blocks());
  EXPECT_LT(pair.decode.core->load().blocks_free, pair.decode.pool->blocks());
  pair.handoff.Deliver();
  pair.prefill.Turn();
  pair.decode.Turn();
  pair.ExpectAllFree();
}

TEST(EngineHandoff, AFailedHandoffIsAnErrorWithItsCauseAtEachSide) {
  Pair pair;
  pair.Submit(ToyRequest(1, 40, 8));
  pair.prefill.Turn();
  pair.decode.Turn();
  ASSERT_TRUE(pair.handoff.FailSend({"r1", 0}, absl::UnavailableError("decode:1 is full")));
  ASSERT_TRUE(pair.handoff.FailReceive({"r1", 0}, absl::AbortedError("the sender gave up")));
  pair.prefill.Turn();
  pair.decode.Turn();
  EXPECT_THAT(
      pair.prefill.sink->heard[1].error,
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("handoff to decode:1: decode:1 is full")));
  EXPECT_THAT(pair.decode.sink->heard[1].error,
              StatusIs(absl::StatusCode::kAborted, HasSubstr("the sender gave up")));
  pair.ExpectAllFree();
}

TEST(EngineHandoff, FailsWhileThePromptIsStillComputed) {
  Pair pair;
  pair.Submit(ToyRequest(1, 100, 8));
  pair.prefill.Turn();
  EXPECT_THAT(pair.prefill.sink->heard[1].token_ids, IsEmpty());
  ASSERT_TRUE(pair.handoff.FailSend({"r1", 0}, absl::FailedPreconditionError("kv_abi differs")));
  pair.prefill.Turn();
  EXPECT_THAT(pair.prefill.sink->heard[1].error,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("kv_abi differs")));
  EXPECT_EQ(pair.prefill.core->load().blocks_free, pair.prefill.pool->blocks());
  pair.decode.Turn();
  pair.decode.core->CloseSession(CoreHarness::kSession);
  pair.RunDry();
  pair.ExpectAllFree();
}

TEST(EngineHandoff, WorkersThatDisagreeAboutTheEndAreAnAlarm) {
  Pair pair;
  EngineRequest request = ToyRequest(1, 20, 8);
  request.role = Role::kPrefill;
  pair.prefill.Submit(request);
  request.role = Role::kDecode;
  request.max_tokens = 1;
  pair.decode.Submit(request);
  pair.RunDry();
  EXPECT_THAT(pair.decode.sink->heard[1].error,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("disagree")));
  pair.ExpectAllFree();
}

TEST(EngineHandoff, DeadlinesEndBothSides) {
  Pair pair;
  EngineRequest request = ToyRequest(1, 16, 8);
  request.deadline = pair.prefill.clock.Now() + absl::Seconds(1);
  pair.Submit(request);
  pair.prefill.Turn();
  pair.decode.Turn();
  pair.prefill.clock.Advance(absl::Seconds(1));
  pair.decode.clock.Advance(absl::Seconds(1));
  pair.RunDry();
  EXPECT_THAT(pair.prefill.sink->heard[1].error,
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("sending")));
  EXPECT_THAT(pair.decode.sink->heard[1].error,
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("awaiting KV")));
  pair.ExpectAllFree();
}

TEST(EngineHandoff, AReassignedPrefillIsNotComputedAgain) {
  for (const int turns : {1, 3}) {  // while computing, and after it
    Pair pair;
    const EngineRequest request = Detailed(1, 100, 8);
    pair.SubmitAndReassign(request, turns);
    pair.prefill.core->Reassign(CoreHarness::kSession, 1, 1, "alive:1");
    pair.RunDry();
    EXPECT_THAT(pair.handoff.peers, ElementsAre("dead:1", "alive:1"));
    EXPECT_EQ(pair.decode.sink->heard[1].token_ids, ExpectedAnswer(request).token_ids);
    EXPECT_TRUE(pair.prefill.sink->heard[1].handoff.has_value());
    pair.ExpectAllFree();
  }
}

TEST(EngineHandoff, AReassignmentThatCannotBeEndsTheRequestAndSaysWhy) {
  struct Case {
    uint32_t turns, attempt;
    absl::StatusCode code;
    std::string says;
  };
  for (const auto& [turns, attempt, code, says] : std::vector<Case>{
           {0, 3, absl::StatusCode::kInternal, "as attempt 3, but attempt 3 is under way"},
           {3, 2, absl::StatusCode::kInternal, "as attempt 2, but attempt 3 is under way"},
           {0, 4, absl::StatusCode::kAlreadyExists, "request r1, attempt 4, is here"},
           {3, 4, absl::StatusCode::kAlreadyExists, "request r1, attempt 4, is here"}}) {
    SCOPED_TRACE(says);
    CoreHarness h;
    FakeHandoff handoff(h.model.kv(), h.model.kv());
    h.Connect(&handoff, nullptr);
    EngineRequest request = ToyRequest(1, 100, 8);
    request.role = Role::kPrefill;
    request.attempt = 3;
    h.Submit(request);
    request.handle = 2;
    request.attempt = 4;
    h.Submit(request);
    for (uint32_t i = 0; i < turns; ++i) h.Turn();
    h.core->Reassign(CoreHarness::kSession, 1, attempt, "other:1");
    EXPECT_EQ(h.core->load().waiting, turns > 0 ? 0u : 1u);
    h.Turn();
    EXPECT_THAT(h.sink->heard[1].error, StatusIs(code, HasSubstr(says)));
    EXPECT_TRUE(h.sink->heard[2].error.ok());
    h.core->Cancel(CoreHarness::kSession, 2);
    handoff.Deliver();
    h.Turn();
    EXPECT_EQ(h.core->load().blocks_free, h.pool->blocks());
    EXPECT_THAT(h.sink->faults, IsEmpty());
  }
}

TEST(EngineHandoff, OnlyAPrefillCanBeReassigned) {
  CoreHarness h;
  h.Submit(ToyRequest(1, 20, 8));
  h.core->Reassign(CoreHarness::kSession, 1, 1, "other:1");
  h.core->Reassign(CoreHarness::kSession, 9, 1, "other:1");  // has ended, for all that is known
  h.Turn();
  EXPECT_THAT(h.sink->heard[1].error,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("hands nothing over")));
}

TEST(EngineHandoff, ANameIsTakenUntilTheHandoffLetsGoOfTheBlocks) {
  Pair pair;
  pair.Submit(ToyRequest(1, 40, 8));
  const auto submit_same = [&](uint64_t handle) {
    EngineRequest same = ToyRequest(handle, 40, 8);
    same.request_id = "r1";
    pair.Submit(same);
    for (CoreHarness* h : {&pair.prefill, &pair.decode}) {
      EXPECT_THAT(h->sink->heard[handle].refusal,
                  StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("request r1, attempt 0")));
    }
  };
  submit_same(2);  // the first one waits
  pair.prefill.Turn();
  pair.decode.Turn();
  submit_same(3);  // it runs
  pair.prefill.core->Cancel(CoreHarness::kSession, 1);
  pair.decode.core->Cancel(CoreHarness::kSession, 1);
  submit_same(4);  // it closes
  pair.handoff.Deliver();
  pair.RunDry();
  EngineRequest again = ToyRequest(5, 40, 8);
  again.request_id = "r1";
  pair.Submit(again);
  pair.RunDry();
  EXPECT_EQ(pair.decode.sink->heard[5].token_ids, ExpectedAnswer(again).token_ids);
  pair.ExpectAllFree();
}

TEST(EngineHandoff, ItsTimeRunsFromThePromptsEndAndNotFromAdmission) {
  Pair pair;
  EngineRequest prefill = ToyRequest(1, 100, 8);
  prefill.role = Role::kPrefill;
  prefill.peer = "decode:1";
  pair.prefill.Submit(prefill);
  pair.prefill.Turn();
  pair.prefill.clock.Advance(2 * pair.prefill.options.handoff_timeout);
  pair.prefill.RunDry();
  const Heard& heard = pair.prefill.sink->heard[1];
  EXPECT_EQ(heard.token_ids.size(), 1u) << heard.error;
  pair.prefill.clock.Advance(pair.prefill.options.handoff_timeout);
  pair.prefill.Turn();
  EXPECT_THAT(heard.error, StatusIs(absl::StatusCode::kDeadlineExceeded,
                                    HasSubstr("handoff to decode:1: not over within 2m")));
  pair.handoff.Deliver();
  pair.prefill.Turn();
  pair.ExpectAllFree();
}

TEST(EngineHandoff, BlocksAreOfThePromptOnlyHereAndCleanedBehindItThere) {
  Pair pair;
  pair.Submit(ToyRequest(1, 40, 60));
  pair.prefill.Turn();
  pair.decode.Turn();
  EXPECT_EQ(pair.prefill.pool->blocks() - pair.prefill.core->load().blocks_free, 3u);
  EXPECT_EQ(pair.decode.pool->blocks() - pair.decode.core->load().blocks_free, 7u);
  pair.RunDry();
  EXPECT_EQ(pair.prefill.model.kv()->cleared, 3u);
  EXPECT_EQ(pair.decode.model.kv()->cleared, 4u) << "the handoff wrote the others whole";
  EXPECT_EQ(pair.decode.sink->heard[1].token_ids, ExpectedAnswer(ToyRequest(1, 40, 60)).token_ids);
  pair.ExpectAllFree();
}

// Each worker has room for one of the two. If the decode worker reserved for whom it heard of
// first, it would wait for a prompt that waits behind one that waits for it.
TEST(EngineHandoff, WorkersWhoseQueuesAreInDifferentOrdersDoNotWaitForEachOther) {
  Pair pair;
  EngineRequest first = ToyRequest(1, 600, 8), second = ToyRequest(2, 600, 8);
  for (EngineRequest* request : {&first, &second}) {
    request->role = Role::kPrefill;
    request->peer = "decode:1";
  }
  pair.prefill.Submit(first);
  pair.prefill.Submit(second);
  first.role = second.role = Role::kDecode;
  pair.decode.Submit(second);
  pair.decode.Submit(first);
  pair.RunDry();
  for (const EngineRequest& request : {first, second}) {
    EXPECT_EQ(pair.decode.sink->heard[request.handle].token_ids, ExpectedAnswer(request).token_ids);
  }
  pair.ExpectAllFree();
}

// A decode whose prefill has not started is not waiting for blocks: the time limit of the queue is
// not for it.
TEST(EngineHandoff, TheQueuesTimeRunsFromThePrefillsStart) {
  Pair pair;
  EngineRequest blocker = ToyRequest(9, 768, 256);  // 64 blocks: all
  pair.decode.Submit(blocker);
  pair.decode.Turn();
  EngineRequest request = ToyRequest(1, 20, 4);
  request.role = Role::kDecode;
  pair.decode.Submit(request);
  pair.decode.clock.Advance(pair.decode.options.queue_timeout * 2);
  pair.decode.Turn();
  EXPECT_THAT(pair.decode.sink->heard[1].error, IsOk());
  request.role = Role::kPrefill;
  request.peer = "decode:1";
  pair.prefill.Submit(request);
  pair.Turn();
  pair.decode.clock.Advance(pair.decode.options.queue_timeout);
  pair.decode.Turn();
  EXPECT_THAT(pair.decode.sink->heard[1].error,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("too few KV blocks")));
}

TEST(EngineHandoff, AFullDecodeWorkerTakesTheNextOneWhenThereIsRoom) {
  Pair pair(/*decode_blocks=*/8);
  const EngineRequest first = ToyRequest(1, 40, 60), second = ToyRequest(2, 40, 20);
  pair.Submit(first);  // 7 blocks
  pair.Submit(second);
  for (int i = 0; i < 20; ++i) pair.Turn();
  EXPECT_TRUE(pair.handoff.announced({"r2", 0}));
  EXPECT_FALSE(pair.handoff.announced({"r1", 0})) << "it has its blocks";
  EXPECT_EQ(pair.decode.core->load().waiting, 1u);
  EXPECT_TRUE(pair.decode.sink->heard[2].error.ok());
  EXPECT_FALSE(pair.prefill.sink->heard[2].handoff.has_value());
  pair.RunDry();
  EXPECT_EQ(pair.decode.sink->heard[1].token_ids, ExpectedAnswer(first).token_ids);
  EXPECT_EQ(pair.decode.sink->heard[2].token_ids, ExpectedAnswer(second).token_ids);
  EXPECT_TRUE(pair.prefill.sink->heard[2].handoff.has_value());
  pair.ExpectAllFree();
}

TEST(EngineHandoff, WhoeverLeavesTheQueueTellsTheReceiver) {
  using Leave = std::function<void(CoreHarness&)>;
  const std::vector<std::pair<std::string, Leave>> ways = {
      {"cancel", [](CoreHarness& h) { h.core->Cancel(CoreHarness::kSession, 2); }},
      {"session", [](CoreHarness& h) { h.core->CloseSession(CoreHarness::kSession); }},
      {"timeout", [](CoreHarness& h) { h.clock.Advance(h.options.queue_timeout); }},
      {"deadline", [](CoreHarness& h) { h.clock.Advance(absl::Seconds(1)); }},
  };
  for (const auto& [name, leave] : ways) {
    SCOPED_TRACE(name);
    Pair pair(/*decode_blocks=*/8);
    EngineRequest second = ToyRequest(2, 40, 20);
    if (name == "deadline") second.deadline = pair.decode.clock.Now() + absl::Seconds(1);
    pair.Submit(ToyRequest(1, 40, 60));
    pair.Submit(second);
    for (int i = 0; i < 3; ++i) pair.Turn();
    ASSERT_TRUE(pair.handoff.announced({"r2", 0}));
    leave(pair.decode);
    pair.decode.Turn();
    EXPECT_FALSE(pair.handoff.announced({"r2", 0}));
    if (name == "timeout") {
      EXPECT_THAT(pair.decode.sink->heard[2].error,
                  StatusIs(absl::StatusCode::kUnavailable, HasSubstr("too few KV blocks")));
    }
    ASSERT_TRUE(pair.handoff.FailSend({"r2", 0}, absl::UnavailableError("it left the queue")));
    pair.RunDry();
    pair.ExpectAllFree();
  }
}

TEST(EngineHandoff, RolesThatNeedAMissingPartAreRefused) {
  CoreHarness h;
  EngineRequest request = ToyRequest(1, 4, 4);
  request.role = Role::kPrefill;
  h.Submit(request);
  request.handle = 2;
  request.role = Role::kDecode;
  h.Submit(request);
  EXPECT_THAT(h.sink->heard[1].refusal, StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(h.sink->heard[2].refusal, StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace tandem
