#include "worker/engine/core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_reason.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void ExpectAnswer(const EngineRequest& request, const Heard& heard) {
  const ToyAnswer want = ExpectedAnswer(request);
  EXPECT_EQ(heard.token_ids, want.token_ids);
  EXPECT_EQ(heard.logprobs, want.logprobs);
  EXPECT_EQ(heard.prompt_logprobs, want.prompt_logprobs);
  ASSERT_TRUE(heard.finish.has_value());
  EXPECT_EQ(heard.finish->reason, want.stopped ? FinishReason::kStop : FinishReason::kLength);
}

TEST(EngineCore, AnswersAsTheModelAloneWould) {
  CoreHarness h;
  EngineRequest greedy = ToyRequest(1, 20, 30);
  greedy.sampling.temperature = 0;
  EngineRequest drawn = ToyRequest(2, 200, 30);
  drawn.logprobs = 3;
  drawn.prompt_logprobs = 2;
  EngineRequest stopping = ToyRequest(3, 1, 100);
  for (int32_t id = 0; id < 8; ++id) stopping.stop_ids.push_back(id);
  for (const EngineRequest& request : {greedy, drawn, stopping}) h.Submit(request);
  h.RunDry();
  for (const EngineRequest& request : {greedy, drawn, stopping}) {
    SCOPED_TRACE(request.handle);
    ExpectAnswer(request, h.sink->heard[request.handle]);
  }
  EXPECT_EQ(h.sink->heard[3].finish->stop_token_id, h.sink->heard[3].token_ids.back());
  EXPECT_EQ(h.core->load().blocks_free, h.pool->blocks());
  EXPECT_THAT(h.model.faults, IsEmpty());
  EXPECT_THAT(h.sink->faults, IsEmpty());
}

TEST(EngineCore, ABatchOfOneEqualsABatchOfSixteenInAnyChunking) {
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 16; ++handle) {
    EngineRequest request = ToyRequest(handle, 1 + handle * 9 % 70, 20);
    request.logprobs = 2;
    if (handle % 3 == 0) request.prompt_logprobs = 1;
    requests.push_back(request);
  }
  for (const uint32_t budget : {32u, 48u, 160u}) {
    CoreHarness h({.blocks = 200, .max_rows = 160, .max_logit_rows = 40},
                  {.max_sequences = 16, .max_batch_tokens = budget});
    for (const EngineRequest& request : requests) h.Submit(request);
    h.RunDry();
    for (const EngineRequest& request : requests) {
      SCOPED_TRACE(testing::Message() << request.handle << " budget " << budget);
      ExpectAnswer(request, h.sink->heard[request.handle]);
    }
    EXPECT_LE(h.model.largest_batch, static_cast<int32_t>(budget));
    EXPECT_THAT(h.model.faults, IsEmpty());
  }
}

TEST(EngineCore, PenaltiesBiasesAndLeastTokensDoNotDependOnTheBatch) {
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 16; ++handle) {
    requests.push_back(ToyRequest(handle, 1 + handle * 9 % 70, 20));
    requests.back().logprobs = 1;
    Adjust(requests.back(), handle);
  }
  for (const uint32_t budget : {32u, 160u}) {
    CoreHarness h({.blocks = 200, .max_rows = 160, .max_logit_rows = 40},
                  {.max_sequences = 16, .max_batch_tokens = budget});
    for (const EngineRequest& request : requests) h.Submit(request);
    h.RunDry();
    for (const EngineRequest& request : requests) {
      SCOPED_TRACE(testing::Message() << request.handle << " budget " << budget);
      const Heard& heard = h.sink->heard[request.handle];
      ExpectAnswer(request, heard);
      EXPECT_GE(heard.token_ids.size(), request.min_tokens);
      for (size_t i = 0; i < request.min_tokens; ++i) {
        EXPECT_FALSE(std::binary_search(request.stop_ids.begin(), request.stop_ids.end(),
                                        heard.token_ids[i]));
      }
    }
  }
}

TEST(EngineCore, ATimeLimitEndsARequestInTheQueueInItsPromptAndInItsOutput) {
  CoreHarness h({.blocks = 12, .per_row = absl::Milliseconds(1)},
                {.max_sequences = 3, .max_batch_tokens = 20});
  EngineRequest decodes = ToyRequest(1, 4, 40), prefills = ToyRequest(2, 100, 4);
  EngineRequest waits = ToyRequest(3, 90, 48), unlimited = ToyRequest(4, 4, 8);
  for (EngineRequest* request : {&decodes, &prefills, &waits}) {
    request->time_limit = absl::Milliseconds(50);
  }
  for (const EngineRequest& request : {decodes, prefills, waits, unlimited}) h.Submit(request);
  ASSERT_TRUE(h.Turn());
  h.RunDry();
  for (uint64_t handle = 1; handle <= 3; ++handle) {
    SCOPED_TRACE(handle);
    const Heard& heard = h.sink->heard[handle];
    ASSERT_TRUE(heard.finish.has_value());
    EXPECT_EQ(heard.finish->reason, FinishReason::kTimeLimit);
    EXPECT_EQ(heard.token_ids.empty(), handle > 1);
    EXPECT_THAT(heard.error, IsOk());
  }
  const std::vector<int32_t> want = ExpectedAnswer(decodes).token_ids;
  const std::vector<int32_t>& got = h.sink->heard[1].token_ids;
  EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin())) << "what came is right";
  ExpectAnswer(unlimited, h.sink->heard[4]);
  EXPECT_EQ(h.core->load().blocks_free, 12u);
  EXPECT_THAT(h.sink->faults, IsEmpty());
}

TEST(EngineCore, OneStepIsOneMessageToASession) {
  CoreHarness h;
  for (uint64_t handle = 1; handle <= 5; ++handle) h.Submit(ToyRequest(handle, 3, 3));
  ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.sink->steps, 1);
  h.RunDry();
  EXPECT_EQ(h.sink->steps, 3);
  EXPECT_EQ(h.core->step_number(), 3u);
}

// A batch takes a while: whoever ended before it need not wait for it.
TEST(EngineCore, AnEndIsToldBeforeTheBatchThatFollowsIt) {
  CoreHarness h({.per_row = absl::Milliseconds(1)});
  EngineRequest limited = ToyRequest(1, 3, 30);
  limited.time_limit = absl::Seconds(1);
  h.Submit(limited);
  h.Submit(ToyRequest(2, 3, 30));
  h.Turn();
  h.clock.Advance(absl::Seconds(1));
  const absl::Time now = h.clock.Now();
  absl::Time told = absl::InfiniteFuture();
  h.sink->on_step = [&] { told = std::min(told, h.clock.Now()); };
  h.Turn();
  ASSERT_TRUE(h.sink->heard[1].finish.has_value());
  EXPECT_GT(h.clock.Now(), now) << "there was a batch";
  EXPECT_EQ(told, now);
}

TEST(EngineCore, ANeedBeyondThePoolIsRefusedWithBothNumbers) {
  CoreHarness h({.blocks = 4});
  h.Submit(ToyRequest(1, 60, 5));
  EXPECT_THAT(h.sink->heard[1].refusal,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("need 5 KV blocks"), HasSubstr("has 4"))));
  h.Submit(ToyRequest(2, 60, 4));
  h.RunDry();
  EXPECT_EQ(h.sink->heard[2].accepted, 1);
}

TEST(EngineCore, WhoDoesNotFitNowWaitsAndIsRefusedWhenItTakesTooLong) {
  CoreHarness h({.blocks = 4});
  h.Submit(ToyRequest(1, 16, 48));
  h.Submit(ToyRequest(2, 16, 48));
  ASSERT_TRUE(h.Turn());
  EXPECT_THAT(h.sink->heard[2].token_ids, IsEmpty());
  EXPECT_EQ(h.core->load().waiting, 1u);
  h.core->SetPaused(CoreHarness::kSession, 1, true);
  h.clock.Advance(h.options.queue_timeout);
  EXPECT_FALSE(h.Turn());
  EXPECT_THAT(h.sink->heard[2].error,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("0 of 4 blocks are free")));
  EXPECT_EQ(h.sink->heard[2].error.GetPayload(kReasonName), kQueueTimeoutReason);
  h.core->SetPaused(CoreHarness::kSession, 1, false);
  h.RunDry();
  ExpectAnswer(ToyRequest(1, 16, 48), h.sink->heard[1]);
}

TEST(EngineCore, WhoWaitsForAPlaceAndNotForBlocksIsToldSo) {
  CoreHarness h({.blocks = 32}, {.max_sequences = 1, .max_batch_tokens = 64});
  h.Submit(ToyRequest(1, 16, 48));
  h.Submit(ToyRequest(2, 16, 48));
  ASSERT_TRUE(h.Turn());
  h.core->SetPaused(CoreHarness::kSession, 1, true);
  h.clock.Advance(h.options.queue_timeout);
  EXPECT_FALSE(h.Turn());
  EXPECT_THAT(h.sink->heard[2].error,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("none of the running"), HasSubstr("1 of at most 1 run"))));
}

TEST(EngineCore, ABlockIsClearedRightBeforeItsFirstRow) {
  CoreHarness h({.blocks = 32}, {.max_sequences = 4, .max_batch_tokens = 32});
  h.Submit(ToyRequest(1, 100, 200));  // 19 blocks
  ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.model.kv()->cleared, 1u) << "16 rows, while no speed is known";
  ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.model.kv()->cleared, 3u) << "48 rows";
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.model.kv()->cleared, 7u) << "100 rows";
  h.RunDry();
  ExpectAnswer(ToyRequest(1, 100, 200), h.sink->heard[1]);
  EXPECT_EQ(h.model.kv()->cleared, 19u) << "once each";
}

TEST(EngineCore, AFullQueueRefuses) {
  CoreHarness h({.blocks = 4}, {.max_sequences = 4, .max_queue = 2, .max_batch_tokens = 64});
  for (uint64_t handle = 1; handle <= 3; ++handle) h.Submit(ToyRequest(handle, 16, 48));
  EXPECT_THAT(h.sink->heard[3].refusal,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("queue is full")));
}

TEST(EngineCore, ASessionThatFloodsTheQueueLeavesPlacesForOthers) {
  CoreHarness h({.blocks = 4}, {.max_sequences = 4, .max_queue = 12, .max_batch_tokens = 64});
  const SessionId second{2};
  auto second_sink = std::make_shared<RecordingSink>();
  h.core->OpenSession(second, second_sink);
  for (uint64_t handle = 1; handle <= 8; ++handle) h.Submit(ToyRequest(handle, 16, 48));
  for (uint64_t handle = 1; handle <= 8; ++handle) {
    EXPECT_EQ(h.sink->heard[handle].accepted, handle <= 6 ? 1 : 0) << handle;
  }
  EXPECT_THAT(h.sink->heard[7].refusal,
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("6 requests of this one wait and 6 places are left")));
  for (uint64_t handle = 1; handle <= 4; ++handle) {
    h.core->Submit(second, ToyRequest(handle, 16, 48));
    EXPECT_EQ(second_sink->heard[handle].accepted, handle <= 3 ? 1 : 0) << handle;
  }
  h.core->CloseSession(second);
  for (uint64_t handle = 9; handle <= 14; ++handle) h.Submit(ToyRequest(handle, 16, 48));
  EXPECT_EQ(h.sink->heard[14].accepted, 1) << "alone, it may fill the queue";
  h.Submit(ToyRequest(15, 16, 48));
  EXPECT_THAT(h.sink->heard[15].refusal,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("queue is full")));
}

TEST(EngineCore, CancelEndsARequestInEveryStateAndFreesItsBlocks) {
  CoreHarness h({.blocks = 12}, {.max_sequences = 4, .max_batch_tokens = 20});
  h.Submit(ToyRequest(1, 4, 40));   // decodes
  h.Submit(ToyRequest(2, 100, 4));  // prefills
  h.Submit(ToyRequest(3, 16, 48));  // waits
  ASSERT_TRUE(h.Turn());
  for (uint64_t handle = 1; handle <= 3; ++handle) h.core->Cancel(CoreHarness::kSession, handle);
  EXPECT_EQ(h.core->load().blocks_free, 12u) << "freed at once, not at the next step";
  EXPECT_FALSE(h.Turn());
  for (uint64_t handle = 1; handle <= 3; ++handle) {
    EXPECT_EQ(h.sink->heard[handle].finish->reason, FinishReason::kCancelled);
  }
  h.core->Cancel(CoreHarness::kSession, 1);
  h.core->Cancel(CoreHarness::kSession, 77);
  EXPECT_FALSE(h.Turn());
  EXPECT_THAT(h.sink->faults, IsEmpty());
}

TEST(EngineCore, ExpiredWorkIsNeverStartedAndRunningWorkEnds) {
  CoreHarness h({.blocks = 4});
  EngineRequest late = ToyRequest(1, 4, 4);
  late.deadline = h.clock.Now();
  h.Submit(late);
  EXPECT_THAT(h.sink->heard[1].refusal, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EngineRequest running = ToyRequest(2, 16, 48), waiting = ToyRequest(3, 16, 48);
  running.deadline = waiting.deadline = h.clock.Now() + absl::Seconds(1);
  h.Submit(running);
  h.Submit(waiting);
  ASSERT_TRUE(h.Turn());
  ASSERT_TRUE(h.Turn());
  h.clock.Advance(absl::Seconds(1));
  const int32_t rows_before = h.core->step_number();
  EXPECT_FALSE(h.Turn());
  EXPECT_EQ(h.core->step_number(), rows_before) << "nothing ran";
  EXPECT_THAT(h.sink->heard[2].error, StatusIs(absl::StatusCode::kDeadlineExceeded,
                                               HasSubstr("while decoding, after 2 output tokens")));
  EXPECT_THAT(h.sink->heard[3].error, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(h.core->load().blocks_free, 4u);
}

TEST(EngineCore, APausedRequestKeepsItsStateAndGoesOn) {
  CoreHarness h;
  const EngineRequest paused = ToyRequest(1, 8, 10), other = ToyRequest(2, 8, 10);
  h.Submit(paused);
  h.Submit(other);
  ASSERT_TRUE(h.Turn());
  h.core->SetPaused(CoreHarness::kSession, 1, true);
  h.RunDry();
  ExpectAnswer(other, h.sink->heard[2]);
  EXPECT_EQ(h.sink->heard[1].token_ids.size(), 1u);
  h.core->SetPaused(CoreHarness::kSession, 1, false);
  h.RunDry();
  ExpectAnswer(paused, h.sink->heard[1]);
}

TEST(EngineCore, ACongestedSessionStopsAndGoesOn) {
  CoreHarness h;
  h.Submit(ToyRequest(1, 20, 10));
  ASSERT_TRUE(h.Turn());
  h.sink->is_congested = true;
  EXPECT_FALSE(h.Turn());
  h.sink->is_congested = false;
  h.RunDry();
  ExpectAnswer(ToyRequest(1, 20, 10), h.sink->heard[1]);
}

TEST(EngineCore, AClosedSessionLosesItsSequencesAndOthersDoNot) {
  CoreHarness h({.blocks = 8});
  const SessionId other{2};
  auto other_sink = std::make_shared<RecordingSink>();
  h.core->OpenSession(other, other_sink);
  h.Submit(ToyRequest(1, 16, 48));
  h.core->Submit(other, ToyRequest(1, 16, 40));
  h.Submit(ToyRequest(2, 16, 48));
  ASSERT_TRUE(h.Turn());
  const int steps = h.sink->steps;
  h.core->CloseSession(CoreHarness::kSession);
  EXPECT_EQ(h.core->load().blocks_free, 4u);
  h.RunDry();
  ExpectAnswer(ToyRequest(1, 16, 40), other_sink->heard[1]);
  EXPECT_EQ(h.sink->steps, steps) << "a closed session hears nothing more";
  EXPECT_EQ(h.core->load().blocks_free, 8u);
}

TEST(EngineCore, AFailedStepEndsItsSequencesAndTheNextRuns) {
  CoreHarness h;
  h.Submit(ToyRequest(1, 20, 10));
  h.model.fail_next = true;
  ASSERT_TRUE(h.Turn());
  EXPECT_THAT(h.sink->heard[1].error,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("model step 1: the toy broke")));
  EXPECT_EQ(h.core->load().blocks_free, h.pool->blocks());
  h.Submit(ToyRequest(2, 20, 10));
  h.RunDry();
  ExpectAnswer(ToyRequest(2, 20, 10), h.sink->heard[2]);
}

TEST(EngineCore, DrainingFinishesWhatIsThereAndTakesNothingNew) {
  CoreHarness h({.blocks = 4});
  h.Submit(ToyRequest(1, 16, 48));
  h.Submit(ToyRequest(2, 16, 48));
  h.core->Drain();
  h.Submit(ToyRequest(3, 1, 1));
  EXPECT_THAT(h.sink->heard[3].refusal,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
  h.RunDry();
  ExpectAnswer(ToyRequest(1, 16, 48), h.sink->heard[1]);
  ExpectAnswer(ToyRequest(2, 16, 48), h.sink->heard[2]);
  EXPECT_TRUE(h.core->load().draining);
}

TEST(EngineCore, LoadSaysWhatWaitsAndWhatIsStillToCome) {
  CoreHarness h({.blocks = 8, .per_row = absl::Milliseconds(2)},
                {.max_sequences = 4, .max_batch_tokens = 32});
  h.Submit(ToyRequest(9, 4, 1));
  h.RunDry();  // its speed is known
  h.Submit(ToyRequest(1, 10, 40));
  h.Submit(ToyRequest(2, 40, 24));
  h.Submit(ToyRequest(3, 64, 1));
  ASSERT_TRUE(h.Turn());  // 10 rows of request 1 and 16 of request 2
  const EngineLoad load = h.core->load();
  EXPECT_EQ(load.waiting, 1u);
  EXPECT_EQ(load.running, 2u);
  EXPECT_EQ(load.blocks_total, 8u);
  EXPECT_EQ(load.blocks_free, 0u);
  EXPECT_EQ(load.queued_prefill_tokens, 24u + 64u);
  EXPECT_EQ(load.outstanding_decode_tokens, 39u + 24u);
  EXPECT_NEAR(load.prefill_tokens_per_second, 500, 1);
  EXPECT_EQ(load.decode_tokens_per_second, 0);
  h.RunDry();
  EXPECT_NEAR(h.core->load().decode_tokens_per_second, 500, 1);
  h.clock.Advance(absl::Seconds(11));
  EXPECT_EQ(h.core->load().decode_tokens_per_second, 0);
}

TEST(EngineCore, StepsStayNearTheTargetOnceTheSpeedIsKnown) {
  CoreHarness h({.blocks = 64, .max_rows = 512, .per_row = absl::Milliseconds(5)},
                {.max_sequences = 16, .max_batch_tokens = 512});
  h.Submit(ToyRequest(1, 10, 1));
  h.RunDry();
  h.model.largest_batch = 0;
  h.Submit(ToyRequest(2, 500, 1));
  h.RunDry();
  EXPECT_LE(h.model.largest_batch, 50) << "250 ms at 5 ms a row";
  EXPECT_GE(h.model.largest_batch, 32);
}

TEST(EngineCore, TheFirstStepIsShortSinceNoSpeedIsKnown) {
  CoreHarness h({.blocks = 64, .max_rows = 512, .per_row = absl::Milliseconds(3)},
                {.max_sequences = 16, .max_batch_tokens = 512});
  h.Submit(ToyRequest(1, 500, 1));
  ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.model.largest_batch, 16);
  ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.model.largest_batch, 80) << "250 ms at 3 ms a row, in whole blocks";
}

TEST(EngineCore, OptionsThatCouldStallAreRefused) {
  ToyModel model({});
  FakeClock clock;
  auto pool = *BlockPool::Create({.blocks = 64});
  const EngineParts parts = {.model = &model, .pool = pool.get(), .clock = &clock};
  const auto create = [&](EngineOptions options) {
    return EngineCore::Create(options, parts, [](EngineMessage) {}).status();
  };
  EXPECT_THAT(create({.max_sequences = 60, .max_batch_tokens = 64}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("needs 76")));
  EXPECT_THAT(create({.max_sequences = 16, .max_batch_tokens = 512}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("made for 64 rows")));
  EXPECT_THAT(create({.max_sequences = 0, .max_batch_tokens = 64}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_sequences")));
  EXPECT_THAT(create(SmallOptions()), IsOk());
}

TEST(EngineCore, AHandleInUseIsRefusedAsTheCallersBug) {
  CoreHarness h;
  h.Submit(ToyRequest(1, 4, 4));
  h.Submit(ToyRequest(1, 4, 4));
  EXPECT_THAT(h.sink->heard[1].refusal,
              StatusIs(absl::StatusCode::kInternal, HasSubstr("handle 1 is in use")));
}

}  // namespace
}  // namespace tandem
