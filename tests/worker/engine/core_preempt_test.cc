// Preemption by recompute: who grows takes blocks from who stands last, and no answer changes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"
#include "tests/worker/engine/pair.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

EngineOptions ShortLookahead(uint32_t max_sequences = 4) {
  return {.max_sequences = max_sequences, .max_batch_tokens = 64, .lookahead_tokens = 1};
}

// A core that counts, and whose requests get a single block more than their prompts need.
struct Counted {
  explicit Counted(uint32_t blocks, EngineOptions options = ShortLookahead())
      : h({.blocks = blocks}, options) {
    h.metrics = &counted;
    h.Connect(nullptr, nullptr);
  }
  ~Counted() {
    EXPECT_THAT(h.model.faults, IsEmpty());
    EXPECT_THAT(h.sink->faults, IsEmpty());
  }
  void Turns(int turns) {
    while (turns-- > 0) ASSERT_TRUE(h.Turn());
  }
  // Of a metric whose labels are those before `model`, and that.
  testing::AssertionResult Has(absl::string_view metric, int value,
                               absl::string_view labels = "") const {
    const std::string line =
        absl::StrCat("tandem_worker_", metric, "{", labels, "model=\"toy\"} ", value, "\n");
    if (registry.Text().find(line) != std::string::npos) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "no " << line;
  }
  void ExpectAnswers(const std::vector<EngineRequest>& requests) {
    for (const EngineRequest& request : requests) {
      SCOPED_TRACE(request.handle);
      const ToyAnswer want = ExpectedAnswer(request);
      const Heard& heard = h.sink->heard[request.handle];
      EXPECT_EQ(heard.token_ids, want.token_ids);
      EXPECT_EQ(heard.logprobs, want.logprobs);
      EXPECT_EQ(heard.prompt_logprobs, want.prompt_logprobs);
      EXPECT_TRUE(heard.finish.has_value());
    }
    EXPECT_EQ(h.core->load().blocks_free, h.pool->blocks());
  }

  MetricRegistry registry;
  WorkerMetrics metrics{&registry};
  CoreHarness h;
  EngineMetrics counted{metrics, "toy", h.model.kv()->layout(), h.pool->blocks()};
};

EngineRequest Detailed(uint64_t handle, uint32_t prompt, uint32_t max_tokens) {
  EngineRequest request = ToyRequest(handle, prompt, max_tokens);
  request.logprobs = 2;
  return request;
}

TEST(EnginePreemption, TheLatestGivesItsBlocksToTheEarliestAndGoesOnLater) {
  Counted c(8);
  const std::vector<EngineRequest> requests = {Detailed(1, 16, 100), Detailed(2, 16, 100)};
  for (const EngineRequest& request : requests) c.h.Submit(request);
  c.Turns(2);
  EXPECT_EQ(c.h.core->load().running, 2u) << "a whole need is 8 blocks, and both run";
  while (c.h.core->load().running == 2) ASSERT_TRUE(c.h.Turn());
  EXPECT_TRUE(c.Has("preemptions_total", 1));
  const EngineLoad load = c.h.core->load();
  EXPECT_EQ(load.waiting, 1u);
  const size_t told = c.h.sink->heard[2].token_ids.size();
  EXPECT_EQ(c.h.sink->heard[1].token_ids.size(), told + 2);
  EXPECT_EQ(load.queued_prefill_tokens, 16 + told);
  c.h.RunDry();
  c.ExpectAnswers(requests);
  EXPECT_TRUE(c.Has("preemptions_total", 1));
}

TEST(EnginePreemption, WhatIsStillInThePrefixCacheIsNotComputedAgain) {
  for (const bool bypass : {false, true}) {
    Counted c(9);
    const EngineRequest first = Detailed(1, 63, 6);  // 4 blocks, and one more when it grows
    EngineRequest second = Detailed(2, 64, 20);      // 5 blocks
    second.cache_bypass = bypass;
    c.h.Submit(first);
    c.h.Submit(second);
    c.h.RunDry();
    c.ExpectAnswers({first, second});
    EXPECT_TRUE(c.Has("preemptions_total", 1));
    EXPECT_TRUE(c.Has("recomputed_tokens_total", bypass ? 64 : 0));
  }
}

TEST(EnginePreemption, TheFirstIsNeverPreemptedAndGetsATokenEachStep) {
  Counted c(20, ShortLookahead(12));
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 12; ++handle) {
    requests.push_back(Detailed(handle, 20 + handle, 280));  // each needs the whole pool
    c.h.Submit(requests.back());
  }
  c.Turns(1);
  for (const EngineRequest& first : requests) {
    const Heard& heard = c.h.sink->heard[first.handle];
    for (int prefill = 0; heard.token_ids.empty() && prefill < 20; ++prefill) c.Turns(1);
    // It may have been preempted, and its recompute takes some rounds, but only once.
    bool recomputed = false;
    int rounds = 0;
    while (!heard.finish && rounds < 400) {
      const size_t before = heard.token_ids.size();
      c.Turns(1);
      ++rounds;
      if (heard.token_ids.size() > before) recomputed = true;
      ASSERT_TRUE(!recomputed || heard.token_ids.size() == before + 1) << first.handle;
    }
    ASSERT_TRUE(heard.finish.has_value()) << first.handle;
  }
  c.h.RunDry();
  c.ExpectAnswers(requests);
  EXPECT_FALSE(c.Has("preemptions_total", 0));
}

TEST(EnginePreemption, ALoneRequestOfAllBlocksFinishesWithoutAny) {
  Counted c(20);
  const EngineRequest request = Detailed(1, 20, 300);
  c.h.Submit(request);
  c.h.RunDry();
  c.ExpectAnswers({request});
  EXPECT_TRUE(c.Has("preemptions_total", 0));
}

TEST(EnginePreemption, APromptThatIsPreemptedGathersItsLogprobsAgain) {
  Counted c(8, {.max_sequences = 4, .max_batch_tokens = 20, .lookahead_tokens = 1});
  EngineRequest first = Detailed(1, 31, 40), second = Detailed(2, 90, 3);
  second.prompt_logprobs = 1;
  c.h.Submit(first);
  c.h.Submit(second);
  while (c.Has("preemptions_total", 0)) ASSERT_TRUE(c.h.Turn());
  EXPECT_THAT(c.h.sink->heard[2].token_ids, IsEmpty());
  c.h.RunDry();
  c.ExpectAnswers({first, second});
}

TEST(EnginePreemption, ThePreemptedStandBeforeThoseThatCameAfterThem) {
  Counted c(8);
  std::vector<EngineRequest> requests = {Detailed(1, 16, 100), Detailed(2, 16, 100)};
  for (const EngineRequest& request : requests) c.h.Submit(request);
  c.Turns(2);
  requests.push_back(Detailed(3, 16, 1));
  requests.push_back(Detailed(4, 100, 20));
  while (c.h.core->load().running == 2) ASSERT_TRUE(c.h.Turn());
  c.h.Submit(requests[2]);
  c.h.Submit(requests[3]);
  c.Turns(1);
  EXPECT_THAT(c.h.sink->heard[3].token_ids, IsEmpty()) << "it would fit, but it is not its turn";
  const size_t told = c.h.sink->heard[2].token_ids.size();
  while (c.h.sink->heard[2].token_ids.size() == told) ASSERT_TRUE(c.h.Turn());
  EXPECT_THAT(c.h.sink->heard[4].token_ids, IsEmpty());
  c.h.RunDry();
  c.ExpectAnswers(requests);
}

TEST(EnginePreemption, TheQueuesTimeIsNotForThePreemptedButTheirOwnLimitsAre) {
  for (const bool deadline : {true, false}) {
    Counted c(8);
    const EngineRequest first = Detailed(1, 16, 100);
    EngineRequest second = Detailed(2, 16, 100);
    const absl::Duration limit = c.h.options.queue_timeout * 3;
    if (deadline) second.deadline = c.h.clock.Now() + limit;
    if (!deadline) second.time_limit = limit;
    c.h.Submit(first);
    c.h.Submit(second);
    while (c.Has("preemptions_total", 0)) ASSERT_TRUE(c.h.Turn());
    c.h.clock.Advance(c.h.options.queue_timeout);
    c.Turns(1);
    const Heard& heard = c.h.sink->heard[2];
    EXPECT_THAT(heard.error, IsOk());
    c.h.clock.Advance(limit - c.h.options.queue_timeout);
    c.Turns(1);
    if (deadline) {
      EXPECT_THAT(heard.error,
                  StatusIs(absl::StatusCode::kDeadlineExceeded,
                           HasSubstr(absl::StrCat("while it was preempted, after ",
                                                  heard.token_ids.size(), " output tokens"))));
    } else {
      ASSERT_TRUE(heard.finish.has_value());
      EXPECT_EQ(heard.finish->reason, FinishReason::kTimeLimit);
    }
    c.h.RunDry();
    c.ExpectAnswers({first});
  }
}

TEST(EnginePreemption, APreemptedRequestCanBeCancelledAndItsSessionClosed) {
  for (const bool close : {true, false}) {
    Counted c(8);
    c.h.Submit(Detailed(1, 16, 100));
    c.h.Submit(Detailed(2, 16, 100));
    while (c.Has("preemptions_total", 0)) ASSERT_TRUE(c.h.Turn());
    if (close) {
      c.h.core->CloseSession(CoreHarness::kSession);
    } else {
      c.h.core->Cancel(CoreHarness::kSession, 2);
      c.h.RunDry();
      EXPECT_EQ(c.h.sink->heard[2].finish->reason, FinishReason::kCancelled);
      c.ExpectAnswers({Detailed(1, 16, 100)});
    }
    EXPECT_TRUE(c.Has("sequences_total", close ? 2 : 1, "finish_reason=\"cancelled\","));
    EXPECT_EQ(c.h.core->load().waiting, 0u);
    EXPECT_EQ(c.h.core->load().blocks_free, 8u);
  }
}

TEST(EnginePreemption, APausedRequestMakesWayAndStaysAsideUntilItIsResumed) {
  Counted c(8);
  const std::vector<EngineRequest> requests = {Detailed(1, 16, 100), Detailed(2, 16, 100),
                                               Detailed(3, 90, 20)};
  c.h.Submit(requests[0]);
  c.h.Submit(requests[1]);
  c.Turns(3);
  c.h.core->SetPaused(CoreHarness::kSession, 1, true);
  while (c.Has("preemptions_total", 0)) ASSERT_TRUE(c.h.Turn());
  EXPECT_EQ(c.h.sink->heard[1].token_ids.size(), 3u) << "it was the earlier one, but paused";
  c.h.Submit(requests[2]);
  c.h.RunDry();
  EXPECT_TRUE(c.h.sink->heard[2].finish.has_value());
  EXPECT_TRUE(c.h.sink->heard[3].finish.has_value()) << "it does not wait for a paused one";
  c.h.core->SetPaused(CoreHarness::kSession, 1, false);
  c.h.RunDry();
  c.ExpectAnswers(requests);
  EXPECT_TRUE(c.Has("preemptions_total", 1));
}

TEST(EnginePreemption, ARequestInLineTakesThePlaceOfAPausedOne) {
  Counted c(8);
  const std::vector<EngineRequest> requests = {Detailed(1, 100, 20), Detailed(2, 60, 20)};
  c.h.Submit(requests[0]);
  c.Turns(4);
  c.h.Submit(requests[1]);
  c.Turns(1);
  EXPECT_EQ(c.h.core->load().running, 1u);
  c.h.core->SetPaused(CoreHarness::kSession, 1, true);
  c.h.RunDry();
  EXPECT_TRUE(c.h.sink->heard[2].finish.has_value());
  c.h.core->SetPaused(CoreHarness::kSession, 1, false);
  c.h.RunDry();
  c.ExpectAnswers(requests);
}

// A router that reads nothing, but lives, must not keep the blocks of another's requests.
TEST(EnginePreemption, ASessionThatReadsNothingMakesWayForOneThatGrowsAndKeepsItsPlace) {
  Counted c(8);
  const SessionId kOther{99};
  const auto other = std::make_shared<RecordingSink>();
  c.h.core->OpenSession(kOther, other);
  const std::vector<EngineRequest> requests = {Detailed(1, 16, 100), Detailed(2, 16, 100)};
  c.h.Submit(requests[0]);
  c.h.core->Submit(kOther, requests[1]);
  c.Turns(3);
  c.h.sink->is_congested = true;
  while (!other->heard[2].finish) ASSERT_TRUE(c.h.Turn());
  EXPECT_EQ(c.h.sink->heard[1].token_ids.size(), 3u);
  EXPECT_TRUE(c.Has("preemptions_total", 1));
  EXPECT_EQ(other->heard[2].token_ids, ExpectedAnswer(requests[1]).token_ids);
  c.h.sink->is_congested = false;
  c.h.RunDry();
  c.ExpectAnswers({requests[0]});
}

// Resumed on this worker for a client that reads slowly: it is paused before it has begun.
TEST(EnginePreemption, WhoIsPausedInTheLineDoesNotExpireThere) {
  EngineOptions options = ShortLookahead();
  options.queue_timeout = absl::Seconds(5);
  Counted c(8, options);
  const EngineRequest request = Detailed(1, 16, 10);
  c.h.Submit(request);
  c.h.core->SetPaused(CoreHarness::kSession, 1, true);
  for (int i = 0; i < 3; ++i) {
    c.h.clock.Advance(absl::Seconds(4));
    c.h.Turn();
  }
  EXPECT_EQ(c.h.core->load().blocks_free, 8u) << "nobody wants its tokens";
  c.h.core->SetPaused(CoreHarness::kSession, 1, false);
  c.h.clock.Advance(absl::Seconds(4));
  c.h.RunDry();
  c.ExpectAnswers({request});
}

TEST(EnginePreemption, ADecodeIsComputedAgainWithoutItsPrefillWorker) {
  CoreHarness prefill;
  Counted c(9);
  FakeHandoff handoff(prefill.model.kv(), c.h.model.kv());
  prefill.Connect(&handoff, nullptr);
  c.h.Connect(nullptr, &handoff);
  std::vector<EngineRequest> requests = {Detailed(1, 20, 100), Detailed(2, 20, 100)};
  for (const EngineRequest& request : requests) SubmitSplit(request, prefill, c.h);
  RunSplit(prefill, c.h, handoff, 250);
  EXPECT_FALSE(c.Has("preemptions_total", 0));
  EXPECT_EQ(handoff.open(), 0u);
  EXPECT_THAT(handoff.faults, IsEmpty());
  for (const EngineRequest& request : requests) {
    EXPECT_EQ(c.h.sink->heard[request.handle].token_ids, ExpectedAnswer(request).token_ids);
  }
  EXPECT_EQ(c.h.core->load().blocks_free, 9u);
}

TEST(EnginePreemption, BlocksThatAHandoffFillsAreWaitedFor) {
  CoreHarness prefill;
  Counted c(8);
  FakeHandoff handoff(prefill.model.kv(), c.h.model.kv());
  prefill.Connect(&handoff, nullptr);
  c.h.Connect(nullptr, &handoff);
  const EngineRequest local = Detailed(1, 31, 60);
  EngineRequest split = Detailed(2, 90, 20);  // 6 blocks
  c.h.Submit(local);                          // 2 blocks
  split.role = Role::kPrefill;
  prefill.Submit(split);
  split.role = Role::kDecode;
  c.h.Submit(split);
  for (int i = 0; i < 5; ++i) prefill.Turn();
  c.Turns(3);  // the prompt, and all of the second block
  EXPECT_FALSE(c.h.Turn()) << "nobody is preempted, and nobody runs";
  EXPECT_TRUE(c.Has("preemptions_total", 0));
  EXPECT_EQ(c.h.core->load().running, 2u);
  handoff.Deliver();
  ASSERT_TRUE(c.h.Turn()) << "the received one gives its blocks back";
  EXPECT_TRUE(c.Has("preemptions_total", 1));
  c.h.RunDry();
  EXPECT_EQ(c.h.sink->heard[1].token_ids, ExpectedAnswer(local).token_ids);
  EXPECT_EQ(c.h.sink->heard[2].token_ids, ExpectedAnswer(split).token_ids);
  EXPECT_EQ(c.h.core->load().blocks_free, 8u);
  EXPECT_THAT(handoff.faults, IsEmpty());
}

}  // namespace
}  // namespace tandem
