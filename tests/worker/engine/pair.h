#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "tests/worker/engine/fake_handoff.h"
#include "tests/worker/engine/harness.h"

namespace tandem {

// One request at both of its workers.
template <typename Core>
void SubmitSplit(EngineRequest request, Core& prefill, Core& decode) {
  request.role = Role::kPrefill;
  request.peer = "decode:1";
  prefill.Submit(request);
  request.role = Role::kDecode;
  request.peer = "";
  decode.Submit(std::move(request));
}

// Rounds of both, and of what travels between them.
template <typename Core>
void RunSplit(Core& prefill, Core& decode, FakeHandoff& handoff, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    prefill.Turn();
    decode.Turn();
    handoff.Deliver();
  }
}

// A prefill worker, a decode worker and the handoff between them.
struct Pair {
  explicit Pair(uint32_t decode_blocks = 64)
      : decode({.blocks = decode_blocks}), handoff(prefill.model.kv(), decode.model.kv()) {
    prefill.Connect(&handoff, nullptr);
    decode.Connect(nullptr, &handoff);
  }
  ~Pair() {
    EXPECT_THAT(handoff.faults, ::testing::IsEmpty());
    for (CoreHarness* h : {&prefill, &decode}) {
      EXPECT_THAT(h->sink->faults, ::testing::IsEmpty());
      EXPECT_THAT(h->model.faults, ::testing::IsEmpty());
    }
  }
  void Submit(EngineRequest request) { SubmitSplit(std::move(request), prefill, decode); }
  void Turn() { RunSplit(prefill, decode, handoff, 1); }
  void RunDry() { RunSplit(prefill, decode, handoff, 300); }
  // The request goes to a decode worker that is dead, and after so many rounds to this one.
  void SubmitAndReassign(EngineRequest request, int rounds) {
    request.role = Role::kPrefill;
    request.peer = "dead:1";
    prefill.Submit(request);
    for (int i = 0; i < rounds; ++i) prefill.Turn();
    request.role = Role::kDecode;
    request.peer = "";
    request.attempt = 1;
    const uint64_t handle = request.handle;
    decode.Submit(std::move(request));
    prefill.core->Reassign(CoreHarness::kSession, handle, 1, "alive:1");
  }
  void ExpectAllFree() {
    EXPECT_EQ(prefill.core->load().blocks_free, prefill.pool->blocks());
    EXPECT_EQ(decode.core->load().blocks_free, decode.pool->blocks());
    EXPECT_EQ(handoff.open(), 0u);
  }

  CoreHarness prefill, decode;
  FakeHandoff handoff;
};

}  // namespace tandem
