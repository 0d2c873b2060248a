// Resumed requests over two workers: the prefill worker computes the prompt and what was delivered,
// and hands over the KV of both.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/pair.h"
#include "tests/worker/engine/resumed.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

struct GuidedPair : Pair {
  explicit GuidedPair(uint32_t decode_blocks = 64, EngineOptions decode_options = SmallOptions())
      : Pair(decode_blocks) {
    prefill.guides = decode.guides = &guides;
    prefill.Connect(&handoff, nullptr);
    decode.options = decode_options;
    decode.metrics = &counted;
    decode.Connect(nullptr, &handoff);
  }
  Heard& of_prefill(uint64_t handle) { return prefill.sink->heard[handle]; }
  Heard& of_decode(uint64_t handle) { return decode.sink->heard[handle]; }

  GuidePool guides{LettersTokenizer(), ToyModel::kVocab, {.threads = false}};
  MetricRegistry registry;
  WorkerMetrics metrics{&registry};
  EngineMetrics counted{metrics, "toy", decode.model.kv()->layout(), decode.pool->blocks()};
};

Heard Whole(const EngineRequest& request) {
  GuidePool guides(LettersTokenizer(), ToyModel::kVocab, {.threads = false});
  CoreHarness alone;
  alone.guides = &guides;
  alone.Connect(nullptr, nullptr);
  alone.Submit(request);
  alone.RunDry();
  return alone.sink->heard[request.handle];
}

std::vector<ResumedKind> OfOneOutput() {
  std::vector<ResumedKind> kinds = ResumedKinds();
  std::erase_if(kinds, [](const ResumedKind& kind) { return kind.request.outputs > 1; });
  return kinds;
}

TEST(EngineResumeHandoff, TheRestHasTheBitsOfAnUndisturbedRunWhereverThatWasCut) {
  for (const auto& [name, request] : OfOneOutput()) {
    SCOPED_TRACE(name);
    const Heard whole = Whole(request);
    for (const EngineRequest& resumed : EveryCut(request, whole)) {
      SCOPED_TRACE(CutOf(resumed));
      GuidedPair pair;
      pair.Submit(resumed);
      pair.RunDry();
      ExpectRestOfSplit(whole, pair.of_prefill(request.handle), pair.of_decode(request.handle));
      const size_t given = request.prompt.size() + resumed.resume[0].tokens.size();
      EXPECT_EQ(pair.of_prefill(request.handle).handoff->bytes,
                (given + 15) / 16 * pair.prefill.model.kv()->layout().slice_bytes());
      EXPECT_EQ(pair.prefill.model.rows, given);
      pair.ExpectAllFree();
    }
  }
}

TEST(EngineResumeHandoff, PrefixHitsOnBothSidesChangeNoBit) {
  for (const auto& [name, request] : OfOneOutput()) {
    SCOPED_TRACE(name);
    const Heard whole = Whole(request);
    GuidedPair pair(400);
    uint64_t handle = request.handle;
    for (EngineRequest resumed : EveryCut(request, whole)) {
      SCOPED_TRACE(CutOf(resumed));
      resumed.handle = handle += 100;
      resumed.request_id = absl::StrCat("cut ", handle);
      pair.Submit(resumed);
      pair.RunDry();
      ExpectRestOfSplit(whole, pair.of_prefill(handle), pair.of_decode(handle));
    }
    EXPECT_GT(pair.handoff.held_blocks, 0u);
    pair.ExpectAllFree();
  }
}

TEST(EngineResumeHandoff, WhoIsPreemptedAtTheDecodeWorkerGoesOnThere) {
  size_t preempted = 0, cuts = 0;
  for (const auto& [name, request] : OfOneOutput()) {
    SCOPED_TRACE(name);
    const Heard whole = Whole(request);
    for (const EngineRequest& resumed : EveryCut(request, whole)) {
      SCOPED_TRACE(CutOf(resumed));
      const uint32_t blocks = static_cast<uint32_t>(BlocksNeeded(resumed, 16)) + 1;
      GuidedPair pair(blocks, {.max_sequences = 4, .max_batch_tokens = 48, .lookahead_tokens = 1});
      const size_t given = request.prompt.size() + resumed.resume[0].tokens.size();
      const uint32_t left = blocks - static_cast<uint32_t>(given / 16 + 1);
      const EngineRequest first = ToyRequest(99, left * 16 - 5, 40);
      if (BlocksNeeded(first, 16) > blocks) continue;
      pair.decode.Submit(first);
      while (pair.of_decode(99).token_ids.empty()) ASSERT_TRUE(pair.decode.Turn());
      pair.Submit(resumed);
      pair.RunDry();
      ExpectRestOfSplit(whole, pair.of_prefill(request.handle), pair.of_decode(request.handle));
      EXPECT_EQ(pair.of_decode(99).token_ids, ExpectedAnswer(first).token_ids);
      preempted += !absl::StrContains(pair.registry.Text(), "preemptions_total{model=\"toy\"} 0\n");
      ++cuts;
      pair.ExpectAllFree();
    }
  }
  EXPECT_GT(preempted, cuts / 4);
}

TEST(EngineResumeHandoff, WhatIsResumedCountsInTheNeedOfThePrefillWorker) {
  for (const uint32_t given : {24u, 25u}) {
    CoreHarness prefill({.blocks = 4});
    FakeHandoff handoff(prefill.model.kv(), prefill.model.kv());
    prefill.Connect(&handoff, nullptr);
    EngineRequest request = ToyRequest(1, 40, 30);
    request.role = Role::kPrefill;
    request.resume = {{std::vector<int32_t>(given, 1), false}};
    prefill.Submit(request);
    const Heard& heard = prefill.sink->heard[1];
    EXPECT_EQ(heard.accepted, given == 24 ? 1 : 0);
    if (given == 24) continue;
    EXPECT_THAT(heard.refusal, StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("the resumed tokens need 5 KV blocks")));
  }
}

TEST(EngineResumeHandoff, AReassignedPrefillHandsTheSameOver) {
  for (const int turns : {0, 1, 6}) {
    EngineRequest request = ToyRequest(1, 40, 30);
    request.logprobs = 1;
    const Heard whole = Whole(request);
    request.resume = {{TokensOf(whole, 0, 20), false}};
    GuidedPair pair;
    pair.SubmitAndReassign(request, turns);
    pair.RunDry();
    ExpectRestOfSplit(whole, pair.of_prefill(1), pair.of_decode(1));
    pair.ExpectAllFree();
  }
}

TEST(EngineResumeHandoff, CancelEndsBothSidesInAnyState) {
  EngineRequest request = ToyRequest(1, 60, 30);
  request.resume = {{TokensOf(Whole(request), 0, 9), false}};
  for (int turns = 0; turns < 12; ++turns) {
    GuidedPair pair;
    pair.Submit(request);
    RunSplit(pair.prefill, pair.decode, pair.handoff, turns);
    pair.prefill.core->Cancel(CoreHarness::kSession, 1);
    pair.decode.core->Cancel(CoreHarness::kSession, 1);
    pair.RunDry();
    EXPECT_TRUE(pair.of_prefill(1).over(Role::kPrefill));
    EXPECT_TRUE(pair.of_decode(1).over(Role::kDecode));
    pair.ExpectAllFree();
  }
}

}  // namespace
}  // namespace tandem
