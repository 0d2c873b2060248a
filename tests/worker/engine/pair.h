#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "tests/worker/engine/fake_handoff.h"
#include "tests/worker/engine/harness.h"

namespace tandem {

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
  void Submit(EngineRequest request) {
    request.role = Role::kPrefill;
    request.peer = "decode:1";
    prefill.Submit(request);
    request.role = Role::kDecode;
    request.peer = "";
    decode.Submit(std::move(request));
  }
  void Turn() {
    prefill.Turn();
    decode.Turn();
    handoff.Deliver();
  }
  void RunDry() {
    for (int i = 0; i < 300; ++i) Turn();
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
