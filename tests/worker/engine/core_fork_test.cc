// Several outputs of one prompt, on one worker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void ExpectAnswers(const EngineRequest& request, const Heard& heard) {
  for (uint32_t output = 0; output < request.outputs; ++output) {
    SCOPED_TRACE(testing::Message() << "request " << request.handle << ", output " << output);
    const ToyAnswer want = ExpectedAnswer(request, output);
    const HeardOutput& got = heard.output(output);
    EXPECT_EQ(got.token_ids, want.token_ids);
    EXPECT_EQ(got.logprobs, want.logprobs);
    ASSERT_TRUE(got.finish.has_value()) << heard.error;
    EXPECT_EQ(got.finish->reason, want.stopped ? FinishReason::kStop : FinishReason::kLength);
  }
  EXPECT_EQ(heard.prompt_logprobs, ExpectedAnswer(request).prompt_logprobs);
}

// A core that has lost nothing when it goes.
struct CleanCore : CoreHarness {
  using CoreHarness::CoreHarness;
  uint32_t used() const { return pool->blocks() - core->load().blocks_free; }
  ~CleanCore() {
    EXPECT_THAT(sink->faults, IsEmpty());
    EXPECT_THAT(model.faults, IsEmpty());
    EXPECT_EQ(used(), 0u);
    EXPECT_EQ(core->load().running + core->load().waiting, 0u);
  }
};

TEST(EngineFork, EachOutputIsWhatItWouldBeAloneAndThePromptIsComputedOnce) {
  for (const uint32_t prompt : {1u, 15u, 16u, 17u, 32u, 100u}) {
    SCOPED_TRACE(prompt);
    CleanCore h;
    EngineRequest request = Several(1, 4, prompt, 20);
    request.prompt_logprobs = 1;
    h.Submit(request);
    h.RunDry();
    ExpectAnswers(request, h.sink->heard[1]);
    EXPECT_EQ(h.model.rows, prompt + 4 * 19);
    EXPECT_EQ(h.model.kv()->copied, prompt % 16 == 0 ? 0u : 3u);
    EXPECT_NE(h.sink->heard[1].token_ids, h.sink->heard[1].output(1).token_ids);
  }
}

TEST(EngineFork, ManyRequestsShareBatches) {
  CleanCore h;
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 12; ++handle) {
    requests.push_back(Several(handle, 1 + handle % 5, 1 + handle * 9 % 70, 12));
    if (handle % 3 == 0) requests.back().stop_ids = {0, 7, 13};
    if (handle % 4 == 0) Adjust(requests.back(), handle);
    if (handle % 5 == 0) requests.back().cache_bypass = true;
    h.Submit(requests.back());
  }
  h.RunDry();
  for (const EngineRequest& request : requests)
    ExpectAnswers(request, h.sink->heard[request.handle]);
}

TEST(EngineFork, GreedyOutputsAreAllEqual) {
  CleanCore h;
  EngineRequest request = Several(1, 8, 40, 20);
  request.sampling.temperature = 0;
  h.Submit(request);
  h.RunDry();
  for (const HeardOutput& other : h.sink->heard[1].others) {
    EXPECT_EQ(other.token_ids, h.sink->heard[1].token_ids);
  }
}

TEST(EngineFork, OutputsShareThePromptsFullBlocksAndEndByThemselves) {
  CleanCore h;
  EngineRequest request = Several(1, 3, 40, 20);  // 2 full blocks of the prompt, 2 for the rest
  request.cache_bypass = true;
  const std::vector<int32_t> first = ExpectedAnswer(request, 1).token_ids;
  const std::vector<int32_t> zeroth = ExpectedAnswer(request, 0).token_ids;
  for (const int32_t id : first) {  // that ends output 1 early, and 0 not at once
    if (id != zeroth[0]) request.stop_ids = {id};
    if (id != zeroth[0]) break;
  }
  h.Submit(request);
  h.Turn();
  EXPECT_EQ(h.used(), 2u + 3 * 2) << "taken at admission";
  uint32_t ended = 0;
  while (h.Turn()) {
    ended = 0;
    for (int i = 0; i < 3; ++i) ended += h.sink->heard[1].output(i).finish.has_value();
    EXPECT_EQ(h.used(), ended == 3 ? 0 : 2 + (3 - ended) * 2);
    EXPECT_EQ(h.core->load().running, 3 - ended);
  }
  EXPECT_EQ(ended, 3u);
  ExpectAnswers(request, h.sink->heard[1]);
}

TEST(EngineFork, WhatCanNeverFitIsRefusedWithBothNumbers) {
  CleanCore h({.blocks = 16}, {.max_sequences = 4, .max_batch_tokens = 64});
  h.Submit(Several(1, 5, 4, 4));
  EXPECT_THAT(h.sink->heard[1].refusal,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("sampling.n: 5 outputs"), HasSubstr("most 4 sequences"))));
  h.Submit(Several(2, 4, 48, 64));  // 3 + 4 * 4
  EXPECT_THAT(h.sink->heard[2].refusal,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("of 4 outputs need 19 KV blocks"), HasSubstr("has 16"))));
  h.Submit(Several(3, 4, 48, 48));  // 3 + 4 * 3
  h.RunDry();
  ExpectAnswers(Several(3, 4, 48, 48), h.sink->heard[3]);
}

TEST(EngineFork, AdmissionCountsAllOutputs) {
  CleanCore h({}, {.max_sequences = 5, .max_batch_tokens = 64});
  const EngineRequest one = ToyRequest(1, 100, 4), four = Several(2, 4, 20, 8),
                      late = ToyRequest(3, 4, 4);
  EngineRequest also = ToyRequest(4, 20, 30);
  h.Submit(also);
  h.Submit(one);
  h.Submit(four);
  h.Submit(late);
  h.Turn();
  EXPECT_EQ(h.core->load().running, 2u) << "four more would be six, and nobody is let past";
  EXPECT_EQ(h.core->load().waiting, 2u);
  while (h.core->load().waiting == 2) ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.core->load().running, 5u) << "the outputs that are still to be made count";
  EXPECT_EQ(h.core->load().waiting, 1u);
  h.RunDry();
  ExpectAnswers(four, h.sink->heard[2]);
}

TEST(EngineFork, ARequestThatWaitsForPlacesSaysSo) {
  CleanCore h({}, {.max_sequences = 4, .max_batch_tokens = 64});
  h.Submit(ToyRequest(1, 20, 400));
  h.Submit(Several(2, 4, 20, 8));
  h.Turn();
  h.clock.Advance(h.options.queue_timeout);
  h.Turn();
  EXPECT_THAT(h.sink->heard[2].error,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("none of the running"), HasSubstr("1 of at most 4 run"))));
  h.core->Cancel(CoreHarness::kSession, 1);
  h.Turn();
}

// Waiting, computing the prompt, decoding, and with an output that has ended.
TEST(EngineFork, CancelEndsEachOutputInAnyState) {
  for (const int turns : {0, 1, 5, 8, 20}) {
    SCOPED_TRACE(turns);
    CleanCore h;
    EngineRequest request = Several(1, 3, 100, 60);
    request.stop_ids = {ExpectedAnswer(request, 2).token_ids[4]};
    h.Submit(request);
    for (int i = 0; i < turns; ++i) h.Turn();
    h.core->Cancel(CoreHarness::kSession, 1);
    h.core->Cancel(CoreHarness::kSession, 1);  // it has ended: nothing happens
    h.Turn();
    EXPECT_EQ(h.used(), 0u);
    for (uint32_t i = 0; i < 3; ++i) {
      const HeardOutput& output = h.sink->heard[1].output(i);
      ASSERT_TRUE(output.finish.has_value());
      const std::vector<int32_t> want = ExpectedAnswer(request, i).token_ids;
      ASSERT_LE(output.token_ids.size(), want.size());
      EXPECT_TRUE(std::equal(output.token_ids.begin(), output.token_ids.end(), want.begin()));
      EXPECT_EQ(output.finish->reason == FinishReason::kCancelled,
                output.token_ids.size() < want.size());
    }
    EXPECT_FALSE(h.Turn());
  }
}

TEST(EngineFork, ADeadlineIsOneErrorForAll) {
  for (const int turns : {0, 1, 6}) {
    CleanCore h;
    EngineRequest request = Several(1, 3, 100, 60);
    request.deadline = h.clock.Now() + absl::Seconds(1);
    h.Submit(request);
    for (int i = 0; i < turns; ++i) h.Turn();
    h.clock.Advance(absl::Seconds(1));
    h.Turn();
    EXPECT_THAT(h.sink->heard[1].error, StatusIs(absl::StatusCode::kDeadlineExceeded));
    EXPECT_FALSE(h.sink->heard[1].finish.has_value());
    EXPECT_FALSE(h.Turn());
  }
}

TEST(EngineFork, ATimeLimitEndsEachOutput) {
  for (const int turns : {0, 1, 6}) {
    SCOPED_TRACE(turns);
    CleanCore h;
    EngineRequest request = Several(1, 3, 100, 60);
    request.time_limit = absl::Seconds(1);
    h.Submit(request);
    for (int i = 0; i < turns; ++i) h.Turn();
    h.clock.Advance(absl::Seconds(1));
    h.Turn();
    for (uint32_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(h.sink->heard[1].output(i).finish.has_value());
      EXPECT_EQ(h.sink->heard[1].output(i).finish->reason, FinishReason::kTimeLimit);
    }
  }
}

TEST(EngineFork, APauseHoldsAllOutputs) {
  for (const int turns : {0, 1, 6}) {
    CleanCore h;
    const EngineRequest request = Several(1, 3, 100, 20);
    h.Submit(request);
    for (int i = 0; i < turns; ++i) h.Turn();
    h.core->SetPaused(CoreHarness::kSession, 1, true);
    const int64_t rows = h.model.rows;
    for (int i = 0; i < 5; ++i) EXPECT_FALSE(h.Turn());
    EXPECT_EQ(h.model.rows, rows);
    h.core->SetPaused(CoreHarness::kSession, 1, false);
    h.RunDry();
    ExpectAnswers(request, h.sink->heard[1]);
  }
}

TEST(EngineFork, AFailedStepIsOneErrorForAll) {
  for (const int turns : {1, 6}) {
    CleanCore h;
    h.Submit(Several(1, 3, 100, 60));
    for (int i = 0; i < turns; ++i) h.Turn();
    h.model.fail_next = true;
    h.Turn();
    EXPECT_THAT(h.sink->heard[1].error,
                StatusIs(absl::StatusCode::kInternal, HasSubstr("the toy broke")));
    EXPECT_EQ(h.used(), 0u);
    EXPECT_FALSE(h.Turn());
  }
}

TEST(EngineFork, ASessionThatEndsTakesAllOutputsAlong) {
  for (const int turns : {0, 1, 6}) {
    CleanCore h;
    h.Submit(Several(1, 3, 100, 60));
    for (int i = 0; i < turns; ++i) h.Turn();
    h.core->CloseSession(CoreHarness::kSession);
    EXPECT_EQ(h.used(), 0u);
    EXPECT_FALSE(h.Turn());
  }
}

TEST(EngineFork, ASecondTurnFindsWhatAnyOutputSaid) {
  CleanCore h;
  const EngineRequest request = Several(1, 3, 40, 30);
  h.Submit(request);
  h.RunDry();
  for (uint32_t i = 0; i < 3; ++i) {
    EngineRequest next = Several(2 + i, 2, 1, 8);
    next.prompt = request.prompt;
    const std::vector<int32_t>& said = h.sink->heard[1].output(i).token_ids;
    next.prompt.insert(next.prompt.end(), said.begin(), said.end());
    h.Submit(next);
    h.RunDry();
    EXPECT_EQ(h.sink->heard[2 + i].cached_tokens, 64u) << "of 70: whole blocks that were computed";
    ExpectAnswers(next, h.sink->heard[2 + i]);
  }
}

TEST(EngineFork, OneOutputCanBeCancelledAndTheOthersGoOn) {
  CleanCore h;
  const EngineRequest request = Several(1, 3, 40, 30);
  h.Submit(request);
  while (h.sink->heard[1].output(1).token_ids.size() < 5) ASSERT_TRUE(h.Turn());
  h.core->CancelOutput(CoreHarness::kSession, 1, 1);
  h.core->CancelOutput(CoreHarness::kSession, 1, 1);
  h.core->CancelOutput(CoreHarness::kSession, 1, 7);
  h.RunDry();
  const Heard& heard = h.sink->heard[1];
  EXPECT_EQ(heard.output(1).finish->reason, FinishReason::kCancelled);
  EXPECT_EQ(heard.output(1).token_ids.size(), 5u);
  for (const uint32_t i : {0u, 2u}) {
    EXPECT_EQ(heard.output(i).token_ids, ExpectedAnswer(request, i).token_ids);
  }
}

TEST(EngineFork, AnOutputThatIsCancelledBeforeItIsMadeEndsThen) {
  CleanCore h({}, {.max_sequences = 8, .max_batch_tokens = 32});
  const EngineRequest request = Several(1, 3, 100, 30);  // a prompt of several steps
  h.Submit(request);
  h.core->CancelOutput(CoreHarness::kSession, 1, 1);
  h.Turn();
  h.core->CancelOutput(CoreHarness::kSession, 1, 0);
  h.RunDry();
  const Heard& heard = h.sink->heard[1];
  for (const uint32_t i : {0u, 1u}) {
    EXPECT_EQ(heard.output(i).finish->reason, FinishReason::kCancelled);
    EXPECT_TRUE(heard.output(i).token_ids.empty());
  }
  EXPECT_EQ(heard.output(2).token_ids, ExpectedAnswer(request, 2).token_ids);
  EXPECT_EQ(h.used(), 0u);
}

// 32 blocks: four outputs grow to 4 + 4 * 7 together, but another request has up to 14.
TEST(EngineFork, AnOutputThatIsPreemptedIsComputedAgainByItself) {
  for (const bool bypass : {false, true}) {
    SCOPED_TRACE(bypass);
    CleanCore h({.blocks = 32},
                {.max_sequences = 8, .max_batch_tokens = 64, .lookahead_tokens = 1});
    EngineRequest other = Several(1, 1, 100, 120);
    EngineRequest request = Several(2, 4, 70, 100);
    request.prompt_logprobs = 1;
    other.cache_bypass = request.cache_bypass = bypass;
    h.Submit(other);
    h.Submit(request);
    bool preempted = false, some_decoded = false;
    while (h.Turn()) {
      const EngineLoad load = h.core->load();
      preempted = preempted || load.waiting > 0;
      some_decoded = some_decoded || (load.waiting > 0 && load.running > 1);
    }
    EXPECT_TRUE(preempted && some_decoded);
    ExpectAnswers(other, h.sink->heard[1]);
    ExpectAnswers(request, h.sink->heard[2]);
  }
}

// The earlier request takes back what was reserved for outputs that are not made yet.
TEST(EngineFork, PreemptedBeforeTheyAreMadeOutputsAreMadeLater) {
  CleanCore h({.blocks = 26}, {.max_sequences = 8, .max_batch_tokens = 32, .lookahead_tokens = 1});
  const EngineRequest first = Several(1, 1, 15, 400), request = Several(2, 3, 340, 8);
  h.Submit(first);
  h.Turn();
  h.Submit(request);
  bool preempted = false;
  while (h.Turn()) preempted = preempted || h.core->load().waiting > 0;
  EXPECT_TRUE(preempted);
  ExpectAnswers(first, h.sink->heard[1]);
  ExpectAnswers(request, h.sink->heard[2]);
}

TEST(EngineFork, AnEndIsForThoseThatWerePreemptedToo) {
  using End = std::function<void(CoreHarness&)>;
  const std::vector<std::pair<std::string, End>> ends = {
      {"cancel", [](CoreHarness& h) { h.core->Cancel(CoreHarness::kSession, 2); }},
      {"deadline", [](CoreHarness& h) { h.clock.Advance(absl::Seconds(100)); }},
      {"time limit", [](CoreHarness& h) { h.clock.Advance(absl::Seconds(50)); }},
      {"session", [](CoreHarness& h) { h.core->CloseSession(CoreHarness::kSession); }},
      {"failed step", [](CoreHarness& h) { h.model.fail_next = true; }}};
  for (const auto& [name, end] : ends) {
    SCOPED_TRACE(name);
    CleanCore h({.blocks = 32},
                {.max_sequences = 8, .max_batch_tokens = 64, .lookahead_tokens = 1});
    EngineRequest request = Several(2, 4, 70, 100);
    request.deadline = h.clock.Now() + absl::Seconds(100);
    request.time_limit = absl::Seconds(50);
    h.Submit(Several(1, 1, 100, 120));
    h.Submit(request);
    while (h.core->load().waiting == 0 || h.core->load().running < 3) ASSERT_TRUE(h.Turn());
    end(h);
    h.RunDry();
    const Heard& heard = h.sink->heard[2];
    if (name == "cancel" || name == "time limit") {
      const bool cancel = name == "cancel";
      for (uint32_t i = 0; i < 4; ++i) {
        EXPECT_EQ(heard.output(i).finish->reason,
                  cancel ? FinishReason::kCancelled : FinishReason::kTimeLimit);
      }
    } else if (name != "session") {
      EXPECT_EQ(heard.error.code(), name == "deadline" ? absl::StatusCode::kDeadlineExceeded
                                                       : absl::StatusCode::kInternal);
    }
  }
}

}  // namespace
}  // namespace tandem
