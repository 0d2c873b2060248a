// The engine over the real decoder: what a request answers depends on nothing but the request.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/worker/engine/pair.h"
#include "tests/worker/engine/real_core.h"

namespace tandem {
namespace {

using ::testing::IsEmpty;

std::vector<EngineRequest> Requests() {
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 16; ++handle) {
    EngineRequest request = ToyRequest(handle, 1 + handle * 23 % 120, 12);
    request.logprobs = 3;
    if (handle % 2 == 0) request.prompt_logprobs = 1;
    if (handle % 4 == 1) request.sampling.temperature = 0;
    requests.push_back(std::move(request));
  }
  return requests;
}

void ExpectSame(const Heard& want, const Heard& got) {
  EXPECT_EQ(want.token_ids, got.token_ids);
  EXPECT_EQ(want.logprobs, got.logprobs);
  EXPECT_EQ(want.prompt_logprobs, got.prompt_logprobs);
}

// Each request alone in an engine, its prompt in one chunk.
const std::map<uint64_t, Heard>& Alone() {
  static const auto* const answers = [] {
    RealCore core(/*threads=*/1, /*max_batch_tokens=*/256);
    for (const EngineRequest& request : Requests()) {
      core.Submit(request);
      while (core.Turn()) {
      }
    }
    EXPECT_THAT(core.sink->faults, IsEmpty());
    return new std::map<uint64_t, Heard>(core.sink->heard);
  }();
  return *answers;
}

TEST(EngineOnRealModel, ABatchOfOneEqualsABatchOfSixteenInAnyChunkingOnAnyThreads) {
  for (const int threads : {1, 2}) {
    for (const uint32_t budget : {32u, 80u, 256u}) {
      RealCore core(threads, budget);
      for (const EngineRequest& request : Requests()) core.Submit(request);
      while (core.Turn()) {
      }
      for (const EngineRequest& request : Requests()) {
        SCOPED_TRACE(testing::Message() << "request " << request.handle << ", threads " << threads
                                        << ", budget " << budget);
        ASSERT_TRUE(core.sink->heard[request.handle].finish.has_value());
        ExpectSame(Alone().at(request.handle), core.sink->heard[request.handle]);
      }
      EXPECT_EQ(core.core->load().blocks_free, core.pool->blocks());
    }
  }
}

TEST(EngineOnRealModel, PrefixHitsChangeNoBit) {
  RealCore core(2, 48);
  for (const EngineRequest& request : Requests()) core.Submit(request);
  while (core.Turn()) {
  }
  uint64_t cached = 0;
  for (EngineRequest request : Requests()) {  // again, and the blocks are there
    request.handle += 100;
    core.Submit(request);
  }
  while (core.Turn()) {
  }
  for (const EngineRequest& request : Requests()) {
    SCOPED_TRACE(request.handle);
    const Heard& heard = core.sink->heard[request.handle + 100];
    cached += heard.cached_tokens;
    ExpectSame(Alone().at(request.handle), heard);
  }
  EXPECT_GT(cached, 300u);
}

// Output 0 of four has the bits that it has alone, however many others share its batches, and the
// others have the same on one worker and over two.
TEST(EngineOnRealModel, FourOutputsOfAPromptChangeNoBitOfTheFirst) {
  RealCore together(2, 80), one_by_one(1, 256), prefill(1, 48), decode(2, 64);
  FakeHandoff handoff(prefill.decoder->kv(), decode.decoder->kv());
  prefill.Connect(&handoff, nullptr);
  decode.Connect(nullptr, &handoff);
  for (EngineRequest request : Requests()) {
    request.outputs = 4;
    together.Submit(request);
    one_by_one.Submit(request);
    while (one_by_one.Turn()) {
    }
    SubmitSplit(request, prefill, decode);
  }
  while (together.Turn()) {
  }
  RunSplit(prefill, decode, handoff, 400);
  for (const EngineRequest& request : Requests()) {
    const Heard& want = one_by_one.sink->heard[request.handle];
    ExpectSame(Alone().at(request.handle), want);
    ExpectSame(Alone().at(request.handle), together.sink->heard[request.handle]);
    for (uint32_t i = 0; i < 4; ++i) {
      SCOPED_TRACE(testing::Message() << "request " << request.handle << ", output " << i);
      const HeardOutput& got = together.sink->heard[request.handle].output(i);
      EXPECT_EQ(want.output(i).token_ids, got.token_ids);
      EXPECT_EQ(want.output(i).logprobs, got.logprobs);
      HeardOutput joined = decode.sink->heard[request.handle].output(i);
      const HeardOutput& first = prefill.sink->heard[request.handle].output(i);
      ASSERT_EQ(first.logprobs.size(), 1u);
      joined.logprobs.insert(joined.logprobs.begin(), first.logprobs[0]);
      EXPECT_EQ(want.output(i).token_ids, joined.token_ids);
      EXPECT_EQ(want.output(i).logprobs, joined.logprobs);
      const bool greedy = request.sampling.temperature == 0;
      EXPECT_EQ(greedy || i == 0, want.output(i).token_ids == want.token_ids);
    }
  }
}

TEST(EngineOnRealModel, APreemptedOutputHasTheBitsOfOneThatIsNot) {
  RealCore roomy(1, 80), tight(2, 48, /*blocks=*/40);
  tight.options.lookahead_tokens = 1;
  tight.Connect(nullptr, nullptr);
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 3; ++handle) {
    requests.push_back(ToyRequest(handle, 40 + handle * 9, 100));
    requests.back().outputs = 4;
    requests.back().logprobs = 2;
    roomy.Submit(requests.back());
    tight.Submit(requests.back());
  }
  while (roomy.Turn()) {
  }
  bool all_ran = false, preempted = false;
  while (tight.Turn()) {
    const bool none_waits = tight.core->load().waiting == 0;
    preempted = preempted || (all_ran && !none_waits);
    all_ran = all_ran || none_waits;
  }
  EXPECT_TRUE(preempted);
  for (const EngineRequest& request : requests) {
    for (uint32_t i = 0; i < 4; ++i) {
      const HeardOutput& want = roomy.sink->heard[request.handle].output(i);
      const HeardOutput& got = tight.sink->heard[request.handle].output(i);
      ASSERT_TRUE(got.finish.has_value());
      EXPECT_EQ(want.token_ids, got.token_ids);
      EXPECT_EQ(want.logprobs, got.logprobs);
    }
  }
  EXPECT_EQ(tight.core->load().blocks_free, tight.pool->blocks());
  EXPECT_THAT(tight.sink->faults, IsEmpty());
}

TEST(EngineOnRealModel, SplitEqualsUnified) {
  RealCore prefill(1, 48), decode(2, 64);
  FakeHandoff handoff(prefill.decoder->kv(), decode.decoder->kv());
  prefill.Connect(&handoff, nullptr);
  decode.Connect(nullptr, &handoff);
  for (const EngineRequest& request : Requests()) SubmitSplit(request, prefill, decode);
  RunSplit(prefill, decode, handoff, 200);
  EXPECT_THAT(handoff.faults, IsEmpty());
  for (const EngineRequest& request : Requests()) {
    SCOPED_TRACE(request.handle);
    Heard joined = decode.sink->heard[request.handle];
    const Heard& first = prefill.sink->heard[request.handle];
    ASSERT_EQ(first.token_ids.size(), 1u);
    EXPECT_EQ(first.token_ids[0], joined.token_ids[0]);
    joined.logprobs.insert(joined.logprobs.begin(), first.logprobs[0]);
    joined.prompt_logprobs = first.prompt_logprobs;
    ExpectSame(Alone().at(request.handle), joined);
  }
}

}  // namespace
}  // namespace tandem
