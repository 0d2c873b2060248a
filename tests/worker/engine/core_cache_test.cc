// The prefix cache inside one worker: what is computed once is not computed again, and changes no
// answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"
#include "tests/worker/engine/pair.h"

namespace tandem {
namespace {

using ::testing::IsEmpty;

EngineRequest WithPrompt(uint64_t handle, std::vector<int32_t> prompt, uint32_t max_tokens) {
  EngineRequest request = ToyRequest(handle, 1, max_tokens);
  request.prompt = std::move(prompt);
  request.logprobs = 2;
  return request;
}

std::vector<int32_t> Joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Runs it to its end; returns how many rows that took.
int64_t Ask(CoreHarness& h, const EngineRequest& request) {
  const int64_t before = h.model.rows;
  h.Submit(request);
  h.RunDry();
  const ToyAnswer want = ExpectedAnswer(request);
  const Heard& heard = h.sink->heard[request.handle];
  EXPECT_EQ(heard.token_ids, want.token_ids) << request.handle;
  EXPECT_EQ(heard.logprobs, want.logprobs) << request.handle;
  EXPECT_EQ(heard.prompt_logprobs, want.prompt_logprobs) << request.handle;
  EXPECT_THAT(h.model.faults, IsEmpty());
  return h.model.rows - before;
}

TEST(EnginePrefixCache, ASecondTurnComputesOnlyWhatIsNew) {
  CoreHarness h;
  const EngineRequest first = WithPrompt(1, ToyRequest(1, 100, 1).prompt, 30);
  EXPECT_EQ(Ask(h, first), 129);
  EXPECT_EQ(h.sink->heard[1].cached_tokens, 0u);
  // 129 tokens were computed: 8 blocks of prompt and answer.
  const std::vector<int32_t> turn =
      Joined(Joined(first.prompt, h.sink->heard[1].token_ids), ToyRequest(7, 20, 1).prompt);
  EXPECT_EQ(Ask(h, WithPrompt(2, turn, 5)), 150 - 128 + 4);
  EXPECT_EQ(h.sink->heard[2].cached_tokens, 128u);
}

TEST(EnginePrefixCache, TheLastTokenOfThePromptIsAlwaysComputed) {
  CoreHarness h;
  const std::vector<int32_t> prompt = ToyRequest(1, 64, 1).prompt;
  EXPECT_EQ(Ask(h, WithPrompt(1, prompt, 1)), 64);
  EXPECT_EQ(Ask(h, WithPrompt(2, prompt, 1)), 16);
  EXPECT_EQ(h.sink->heard[2].cached_tokens, 48u);
}

TEST(EnginePrefixCache, RunningRequestsShareTheirBeginning) {
  CoreHarness h({.blocks = 17}, {.max_sequences = 4, .max_batch_tokens = 64});
  const std::vector<int32_t> common = ToyRequest(1, 128, 1).prompt;
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 3; ++handle) {
    requests.push_back(WithPrompt(handle, Joined(common, ToyRequest(handle, 8, 1).prompt), 40));
  }
  h.Submit(requests[0]);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(h.Turn());
  h.Submit(requests[1]);
  h.Submit(requests[2]);
  ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.core->load().running, 3u) << "8 shared blocks and 3 of each own, of 17";
  EXPECT_EQ(h.core->load().waiting, 0u);
  h.RunDry();
  for (const EngineRequest& request : requests) {
    EXPECT_EQ(h.sink->heard[request.handle].token_ids, ExpectedAnswer(request).token_ids);
  }
  EXPECT_EQ(h.core->load().blocks_free, 17u);
  EXPECT_THAT(h.model.faults, IsEmpty());
}

TEST(EnginePrefixCache, WhatTwoComputeAtOnceIsKeptOnce) {
  EngineOptions options = SmallOptions();
  options.max_batch_tokens = 160;
  options.lookahead_tokens = 1;
  CoreHarness h({.blocks = 10, .max_rows = 160}, options);
  const std::vector<int32_t> prompt = ToyRequest(1, 64, 1).prompt;
  EngineRequest brief = WithPrompt(1, prompt, 2), all = WithPrompt(2, prompt, 96);
  all.sampling.seed = 5;
  h.Submit(brief);
  h.Submit(all);  // 10 blocks, in the end
  while (!h.sink->heard[1].finish) ASSERT_TRUE(h.Turn());
  EXPECT_EQ(h.core->load().blocks_free, 5u) << "4 of the prompt and 1 of the answer are in use";
  h.RunDry();
  EXPECT_EQ(h.sink->heard[2].token_ids, ExpectedAnswer(all).token_ids);
  EXPECT_EQ(h.core->load().blocks_free, 10u);
  EXPECT_THAT(h.model.faults, IsEmpty());
}

TEST(EnginePrefixCache, ASaltSharesWithItsOwnKindAlone) {
  CoreHarness h;
  const std::vector<int32_t> prompt = ToyRequest(1, 50, 1).prompt;
  EngineRequest request = WithPrompt(1, prompt, 1);
  EXPECT_EQ(Ask(h, request), 50);
  request.handle = 2;
  request.cache_salt = "a";
  EXPECT_EQ(Ask(h, request), 50);
  request.handle = 3;
  request.cache_salt = "b";
  EXPECT_EQ(Ask(h, request), 50);
  request.handle = 4;
  request.cache_salt = "a";
  EXPECT_EQ(Ask(h, request), 2);
}

TEST(EnginePrefixCache, ABypassNeitherUsesNorFillsIt) {
  CoreHarness h;
  EngineRequest request = WithPrompt(1, ToyRequest(1, 50, 1).prompt, 20);
  request.cache_bypass = true;
  EXPECT_EQ(Ask(h, request), 69);
  EXPECT_EQ(h.core->load().blocks_ready, 0u);
  request.handle = 2;
  request.cache_bypass = false;
  EXPECT_EQ(Ask(h, request), 69);
  request.handle = 3;
  request.cache_bypass = true;
  EXPECT_EQ(Ask(h, request), 69);
}

TEST(EnginePrefixCache, LogprobsOfThePromptNeedAllOfItComputed) {
  CoreHarness h;
  EngineRequest request = WithPrompt(1, ToyRequest(1, 50, 1).prompt, 1);
  EXPECT_EQ(Ask(h, request), 50);
  request.handle = 2;
  request.prompt_logprobs = 1;
  EXPECT_EQ(Ask(h, request), 50);
  EXPECT_EQ(h.sink->heard[2].cached_tokens, 0u);
}

TEST(EnginePrefixCache, AFailedStepLeavesNothingThatOthersWouldUse) {
  CoreHarness h;
  EngineRequest request = WithPrompt(1, ToyRequest(1, 50, 1).prompt, 1);
  h.model.fail_next = true;
  h.Submit(request);
  h.RunDry();
  EXPECT_THAT(h.sink->heard[1].error, StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(h.core->load().blocks_ready, 0u);
  request.handle = 2;
  EXPECT_EQ(Ask(h, request), 50);
}

TEST(EnginePrefixCache, WhatIsUnusedMakesRoomForWhatComes) {
  CoreHarness h({.blocks = 12});
  for (uint64_t handle = 1; handle <= 20; ++handle) {
    Ask(h, WithPrompt(handle, ToyRequest(handle, 100, 1).prompt, 40));
    const EngineLoad load = h.core->load();
    EXPECT_EQ(load.blocks_free, 12u);
    EXPECT_EQ(load.blocks_ready, load.blocks_unused);
    EXPECT_GE(load.blocks_ready, 8u);
  }
}

TEST(EnginePrefixCache, SwitchedOffItKeepsNothing) {
  EngineOptions options = SmallOptions();
  options.prefix_cache = false;
  CoreHarness h({}, options);
  const std::vector<int32_t> prompt = ToyRequest(1, 64, 1).prompt;
  EXPECT_EQ(Ask(h, WithPrompt(1, prompt, 1)), 64);
  EXPECT_EQ(Ask(h, WithPrompt(2, prompt, 1)), 64);
  EXPECT_EQ(h.pool->free_blocks(), h.pool->blocks());
}

TEST(EnginePrefixCache, BothEndsOfAHandoffUseWhatTheyHave) {
  CoreHarness prefill, decode;
  FakeHandoff handoff(prefill.model.kv(), decode.model.kv());
  prefill.Connect(&handoff, nullptr);
  decode.Connect(nullptr, &handoff);
  const std::vector<int32_t> prompt = ToyRequest(1, 100, 1).prompt;
  for (uint64_t handle = 1; handle <= 3; ++handle) {
    EngineRequest request = WithPrompt(handle, Joined(prompt, ToyRequest(handle, 9, 1).prompt), 20);
    SubmitSplit(request, prefill, decode);
    RunSplit(prefill, decode, handoff, 60);
    EXPECT_EQ(decode.sink->heard[handle].token_ids, ExpectedAnswer(request).token_ids);
    EXPECT_EQ(prefill.sink->heard[handle].cached_tokens, handle == 1 ? 0u : 96u);
    EXPECT_EQ(decode.sink->heard[handle].cached_tokens, 0u) << "the prefill worker tells";
  }
  EXPECT_EQ(handoff.held_blocks, 12u) << "6 of the second and of the third request";
  EXPECT_EQ(prefill.core->load().blocks_free, 64u);
  EXPECT_EQ(decode.core->load().blocks_free, 64u);
  for (CoreHarness* h : {&prefill, &decode}) EXPECT_THAT(h->model.faults, IsEmpty());
  EXPECT_THAT(handoff.faults, IsEmpty());
}

}  // namespace
}  // namespace tandem
