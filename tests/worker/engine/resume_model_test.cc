// Resumed requests over the real decoder: raw bits of what is told of the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/engine/pair.h"
#include "tests/worker/engine/real_core.h"
#include "tests/worker/engine/resumed.h"

namespace tandem {
namespace {

using ::testing::IsEmpty;

struct GuidedRealCore : RealCore {
  GuidedRealCore(int threads, uint32_t max_batch_tokens) : RealCore(threads, max_batch_tokens) {
    guides = &pool_of_guides;
    Connect(nullptr, nullptr);
  }
  GuidePool pool_of_guides{LettersTokenizer(), decoder->spec().vocab, {.threads = false}};
};

struct Undisturbed {
  EngineRequest request;
  Heard heard;
};

// Each alone in an engine, its prompt in one chunk.
std::vector<Undisturbed> RunUndisturbed() {
  GuidedRealCore core(/*threads=*/1, /*max_batch_tokens=*/256);
  std::vector<Undisturbed> all;
  for (const ResumedKind& kind : ResumedKinds()) {
    core.Submit(kind.request);
    core.RunDry();
    all.push_back({kind.request, core.sink->heard[kind.request.handle]});
    EXPECT_TRUE(all.back().heard.over(Role::kUnified)) << all.back().heard.error;
  }
  EXPECT_THAT(core.sink->faults, IsEmpty());
  return all;
}

TEST(ResumeOnRealModel, EveryCutOfEveryRequestInOneBatchChangesNoBit) {
  for (const auto& [threads, budget, cache] :
       {std::tuple{1, 32u, false}, {2, 80u, true}, {2, 256u, false}}) {
    GuidedRealCore core(threads, budget);
    core.options.prefix_cache = cache;
    core.options.max_queue = 4096;
    core.Connect(nullptr, nullptr);
    for (const Undisturbed& one : RunUndisturbed()) {
      std::vector<EngineRequest> resumed = EveryCut(one.request, one.heard);
      for (size_t i = 0; i < resumed.size(); ++i) {
        resumed[i].handle = 1000 + i;
        core.Submit(resumed[i]);
      }
      core.RunDry();
      for (const EngineRequest& request : resumed) {
        SCOPED_TRACE(testing::Message() << "request " << one.request.handle << " " << CutOf(request)
                                        << ", " << threads << " threads");
        ExpectRest(one.heard, core.sink->heard[request.handle]);
      }
      core.sink->heard.clear();
    }
    EXPECT_EQ(core.core->load().blocks_free, core.pool->blocks());
    EXPECT_THAT(core.sink->faults, IsEmpty());
  }
}

TEST(ResumeOnRealModel, OverTwoWorkersToo) {
  GuidedRealCore prefill(1, 48), decode(2, 64);
  FakeHandoff handoff(prefill.decoder->kv(), decode.decoder->kv());
  prefill.Connect(&handoff, nullptr);
  decode.Connect(nullptr, &handoff);
  for (const Undisturbed& one : RunUndisturbed()) {
    if (one.request.outputs > 1) continue;
    const std::vector<EngineRequest> cuts = EveryCut(one.request, one.heard);
    for (size_t i = 0; i < cuts.size(); ++i) {
      EngineRequest request = cuts[i];
      request.handle = 1000 * one.request.handle + i;
      request.request_id = absl::StrCat("cut ", request.handle);
      SubmitSplit(request, prefill, decode);
      const auto over = [&] {
        return decode.sink->heard[request.handle].over(Role::kDecode) &&
               prefill.sink->heard[request.handle].over(Role::kPrefill);
      };
      for (int round = 0; round < 300 && !over(); ++round) RunSplit(prefill, decode, handoff, 1);
      SCOPED_TRACE(testing::Message() << "request " << one.request.handle << " " << CutOf(request));
      ExpectRestOfSplit(one.heard, prefill.sink->heard[request.handle],
                        decode.sink->heard[request.handle]);
    }
  }
  EXPECT_THAT(handoff.faults, IsEmpty());
}

}  // namespace
}  // namespace tandem
