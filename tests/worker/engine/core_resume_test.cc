// Requests that earlier attempts delivered a part of: what is told of the rest has the bits that it
// has in a run that nothing disturbs, wherever that was cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"
#include "tests/worker/engine/letters.h"
#include "tests/worker/engine/resumed.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

using Kind = GrammarSource::Kind;

// A core that counts, and follows grammars.
struct ResumeCore : CoreHarness {
  explicit ResumeCore(uint32_t blocks = 64, EngineOptions options = SmallOptions())
      : CoreHarness({.blocks = blocks}, options) {
    metrics = &counted;
    guides = &pool_of_guides;
    Connect(nullptr, nullptr);
  }
  ~ResumeCore() {
    EXPECT_THAT(sink->faults, IsEmpty());
    EXPECT_THAT(model.faults, IsEmpty());
    EXPECT_EQ(core->load().blocks_free, pool->blocks());
    EXPECT_EQ(core->load().running + core->load().waiting, 0u);
  }
  Heard Answer(const EngineRequest& request) {
    Submit(request);
    RunDry();
    return sink->heard[request.handle];
  }
  bool preempted() const {
    return !absl::StrContains(registry.Text(), "preemptions_total{model=\"toy\"} 0\n");
  }

  MetricRegistry registry;
  WorkerMetrics worker_metrics{&registry};
  EngineMetrics counted{worker_metrics, "toy", model.kv()->layout(), pool->blocks()};
  GuidePool pool_of_guides{LettersTokenizer(), ToyModel::kVocab, {.threads = false}};
};

TEST(EngineResume, TheRestHasTheBitsOfAnUndisturbedRunWhereverThatWasCut) {
  for (const auto& [name, request] : ResumedKinds()) {
    SCOPED_TRACE(name);
    const Heard whole = ResumeCore().Answer(request);
    ASSERT_TRUE(whole.over(Role::kUnified)) << whole.error;
    for (const EngineRequest& resumed : EveryCut(request, whole)) {
      SCOPED_TRACE(CutOf(resumed));
      ExpectRest(whole, ResumeCore().Answer(resumed));
    }
  }
}

TEST(EngineResume, SoItIsInChunksOfOneBlockAndWithoutPrefixCache) {
  EngineOptions options = {.max_sequences = 8, .max_batch_tokens = 24, .lookahead_tokens = 1};
  options.prefix_cache = false;
  for (const auto& [name, request] : ResumedKinds()) {
    SCOPED_TRACE(name);
    const Heard whole = ResumeCore().Answer(request);
    for (const EngineRequest& resumed : EveryCut(request, whole)) {
      SCOPED_TRACE(CutOf(resumed));
      ExpectRest(whole, ResumeCore(64, options).Answer(resumed));
    }
  }
}

// On the worker that was first to answer it: all blocks that are full of it may be found again.
TEST(EngineResume, PrefixHitsChangeNoBit) {
  for (const auto& [name, request] : ResumedKinds()) {
    SCOPED_TRACE(name);
    ResumeCore one(400);
    const Heard whole = one.Answer(request);
    uint64_t handle = request.handle;
    for (EngineRequest resumed : EveryCut(request, whole)) {
      SCOPED_TRACE(CutOf(resumed));
      resumed.handle = handle += 100;
      ExpectRest(whole, one.Answer(resumed));
    }
    EXPECT_FALSE(absl::StrContains(one.registry.Text(), "cache_hits_total{model=\"toy\"} 0\n"));
  }
}

TEST(EngineResume, WhatIsResumedAndThenPreemptedHasThemToo) {
  size_t preempted = 0, cuts = 0;
  for (const auto& [name, request] : ResumedKinds()) {
    SCOPED_TRACE(name);
    const Heard whole = ResumeCore().Answer(request);
    for (const EngineRequest& resumed : EveryCut(request, whole)) {
      SCOPED_TRACE(CutOf(resumed));
      // The one that came first grows soon, and leaves what this one's next tokens need.
      EngineRequest next = resumed;
      size_t most = 0;
      for (const ResumedOutput& one : resumed.resume) most = std::max(most, one.tokens.size());
      next.max_tokens = static_cast<uint32_t>(most) + 1;
      const auto need = static_cast<uint32_t>(BlocksNeeded(next, 16));
      const auto blocks = std::max(static_cast<uint32_t>(BlocksNeeded(resumed, 16)), need + 2);
      ResumeCore tight(blocks, {.max_sequences = 8, .max_batch_tokens = 48, .lookahead_tokens = 1});
      const uint32_t prompt = (blocks - need) * 16 - 5;
      const EngineRequest first = ToyRequest(99, prompt, blocks * 16 - prompt);
      tight.Submit(first);
      while (tight.sink->heard[99].token_ids.empty()) ASSERT_TRUE(tight.Turn());
      ExpectRest(whole, tight.Answer(resumed));
      EXPECT_EQ(tight.sink->heard[99].token_ids, ExpectedAnswer(first).token_ids);
      preempted += tight.preempted();
      ++cuts;
    }
  }
  EXPECT_GT(preempted, cuts / 3);
}

TEST(EngineResume, NothingOfTheOutputIsComputedTwiceAndThePromptOnce) {
  EngineRequest request = Several(1, 4, 40, 30);
  const Heard whole = ResumeCore().Answer(request);
  request.resume = {
      {{}, true}, {{}, false}, {TokensOf(whole, 2, 20), false}, {TokensOf(whole, 3, 29), false}};
  ResumeCore core;
  ExpectRest(whole, core.Answer(request));
  EXPECT_EQ(core.model.rows, 40 + 29 + 29 + 29) << "all but each output's last token";
  EXPECT_EQ(core.model.kv()->copied, 2u);
}

TEST(EngineResume, LoadCountsWhatIsStillToDo) {
  EngineRequest request = Several(1, 3, 40, 30);
  const Heard whole = ResumeCore().Answer(request);
  request.resume = {{TokensOf(whole, 0, 10), false},
                    {TokensOf(whole, 1, 7), true},
                    {TokensOf(whole, 2, 25), false}};
  ResumeCore core;
  core.Submit(request);
  EXPECT_EQ(core.core->load().queued_prefill_tokens, 40u + 10 + 25);
  core.Turn();  // 16 rows: no speed is known yet
  EXPECT_EQ(core.core->load().queued_prefill_tokens, 24u + 10 + 25);
  EXPECT_EQ(core.core->load().running, 2u);
  EXPECT_EQ(core.core->load().outstanding_decode_tokens, 20u + 5);
  core.RunDry();
  ExpectRest(whole, core.sink->heard[1]);
}

TEST(EngineResume, CachedTokensAndThePromptAreToldWithTokenZeroAlone) {
  ResumeCore core;
  EngineRequest request = Several(1, 2, 40, 12);
  request.prompt_logprobs = 1;
  const Heard whole = core.Answer(request);
  request.prompt_logprobs.reset();  // so that the cache may be used
  for (const bool zero : {false, true}) {
    request.handle += 1;
    request.resume = {{TokensOf(whole, 0, zero ? 0 : 5), false}, {TokensOf(whole, 1, 5), false}};
    EXPECT_EQ(core.Answer(request).cached_tokens, zero ? 32u : 0u);
  }
  request.prompt_logprobs = 1;
  request.handle += 1;
  const Heard again = core.Answer(request);
  EXPECT_EQ(BitsOf(again.prompt_logprobs), BitsOf(whole.prompt_logprobs));
  request.handle += 1;
  request.resume = {{{}, true}, {{}, false}};
  const Heard other = core.Answer(request);
  EXPECT_THAT(other.prompt_logprobs, IsEmpty());
  ExpectRest(whole, other);
}

TEST(EngineResume, CancelAndTimeLimitEndThoseThatRunBehindWhatTheyHave) {
  for (const int turns : {0, 1, 3, 5}) {
    for (const bool cancel : {false, true}) {
      SCOPED_TRACE(testing::Message() << turns << (cancel ? ", cancelled" : ""));
      EngineRequest request = Several(1, 4, 40, 30);
      const Heard whole = ResumeCore().Answer(request);
      request.resume = {{TokensOf(whole, 0, 3), true},
                        {TokensOf(whole, 1, 9), false},
                        {{}, false},
                        {TokensOf(whole, 3, 1), true}};
      request.time_limit = absl::Seconds(1);
      ResumeCore core;
      core.Submit(request);
      for (int i = 0; i < turns; ++i) core.Turn();
      if (cancel) core.core->Cancel(CoreHarness::kSession, 1);
      core.clock.Advance(absl::Seconds(1));
      core.RunDry();
      core.Turn();
      const FinishReason why = cancel ? FinishReason::kCancelled : FinishReason::kTimeLimit;
      for (const uint32_t output : {1u, 2u}) {
        EXPECT_EQ(core.sink->heard[1].output(output).finish->reason, why);
      }
    }
  }
}

TEST(EngineResume, WhatTheGrammarWouldNotHaveGivenIsNamed) {
  const int32_t a = 1, b = 2, digit = static_cast<int32_t>(kLetters.find('7')) + 1;
  struct Case {
    std::vector<int32_t> tokens;
    std::string says;
  };
  for (const auto& [tokens, says] :
       std::vector<Case>{{{a, b, digit, a}, "token 2 of output 1 does not continue"},
                         {{a, b, a}, "token 2 of output 1 ends"},
                         {{a, kEndId}, "token 1 of output 1 does not continue"}}) {
    EngineRequest request = ToyRequest(1, 20, 30);
    request.guided = GrammarSource{Kind::kRegex, "[a-b]{3}", {}};
    request.outputs = 2;
    request.resume = {{{}, false}, {tokens, false}};
    ResumeCore core;
    EXPECT_THAT(core.Answer(request).error,
                StatusIs(absl::StatusCode::kInvalidArgument,
                         testing::AllOf(StartsWith("resume: "), HasSubstr(says),
                                        HasSubstr("guided.regex"))));
  }
}

}  // namespace
}  // namespace tandem
