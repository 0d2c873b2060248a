// The engine over the timing model: its answers are as reproducible as a real model's, and its
// steps take the time that they are said to take.
#include "worker/backend/sim/sim_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"
#include "tests/worker/engine/pair.h"

namespace tandem {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ModelSpec SmallSpec() {
  ModelSpec spec;
  spec.vocab = 1000;
  spec.eos_ids = {2};
  return spec;
}

struct SimCore {
  explicit SimCore(uint32_t blocks = 200, uint32_t lookahead = 256, std::string weights = "sim") {
    SimModel::Options sim;
    sim.kv_blocks = blocks;
    sim.kv_abi = sim.weights_digest = std::move(weights);
    sim.timing = {absl::Milliseconds(5), absl::Microseconds(100), absl::Milliseconds(1)};
    sim.wait = [this](absl::Duration time) { clock.Advance(time); };
    model = *SimModel::Create(SmallSpec(), sim);
    pool = *BlockPool::Create({.blocks = blocks});
    options.max_sequences = 16;
    options.lookahead_tokens = lookahead;
    Connect(nullptr, nullptr);
  }
  void Connect(HandoffSender* sender, HandoffReceiver* receiver) {
    EngineParts parts;
    parts.model = model.get();
    parts.pool = pool.get();
    parts.sender = sender;
    parts.receiver = receiver;
    parts.clock = &clock;
    core = *EngineCore::Create(
        options, parts, [this](EngineMessage message) { posted.push_back(std::move(message)); });
    core->OpenSession(SessionId{1}, sink);
  }
  void Submit(EngineRequest request) {
    sink->roles[request.handle] = request.role;
    core->Submit(SessionId{1}, std::move(request));
  }
  bool Turn() {
    for (EngineMessage& message : std::exchange(posted, {})) message(*core);
    return core->Step();
  }
  const std::vector<int32_t>& Tokens(uint64_t handle) { return sink->heard[handle].token_ids; }

  FakeClock clock;
  std::unique_ptr<SimModel> model;
  std::unique_ptr<BlockPool> pool;
  EngineOptions options;
  std::vector<EngineMessage> posted;
  std::unique_ptr<EngineCore> core;
  std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();
};

std::vector<EngineRequest> Requests() {
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 12; ++handle) {
    requests.push_back(ToyRequest(handle, 1 + handle * 23 % 90, 40));
    if (handle % 2 == 0) requests.back().sampling.temperature = 0;
  }
  return requests;
}

TEST(SimModel, AnswersDoNotDependOnBatchesPreemptionOrHandoffs) {
  SimCore alone, crowded(/*blocks=*/20, /*lookahead=*/1), prefill, decode;
  FakeHandoff handoff(prefill.model->kv(), decode.model->kv());
  prefill.Connect(&handoff, nullptr);
  decode.Connect(nullptr, &handoff);
  for (const EngineRequest& request : Requests()) {
    alone.Submit(request);
    while (alone.Turn()) {
    }
    crowded.Submit(request);
    SubmitSplit(request, prefill, decode);
  }
  while (crowded.Turn()) {
  }
  RunSplit(prefill, decode, handoff, 200);
  for (const EngineRequest& request : Requests()) {
    EXPECT_EQ(alone.Tokens(request.handle).size(), 40u) << "no token ends an output";
    EXPECT_THAT(alone.Tokens(request.handle), Not(Contains(2)));
    EXPECT_EQ(alone.Tokens(request.handle), crowded.Tokens(request.handle));
    EXPECT_EQ(alone.Tokens(request.handle), decode.Tokens(request.handle));
  }
  EXPECT_NE(alone.Tokens(1), alone.Tokens(2));
  EXPECT_THAT(handoff.faults, IsEmpty());
}

TEST(SimModel, OtherWeightsAnswerDifferently) {
  SimCore one, same, other(/*blocks=*/200, /*lookahead=*/256, "other");
  for (SimCore* core : {&one, &same, &other}) {
    core->Submit(ToyRequest(1, 20, 40));
    while (core->Turn()) {
    }
  }
  EXPECT_EQ(one.Tokens(1), same.Tokens(1));
  EXPECT_NE(one.Tokens(1), other.Tokens(1));
}

TEST(SimModel, AStepTakesItsTime) {
  SimCore sim;
  sim.Submit(ToyRequest(1, 16, 3));
  absl::Time before = sim.clock.Now();
  ASSERT_TRUE(sim.Turn());
  EXPECT_EQ(sim.clock.Now() - before, absl::Microseconds(5000 + 16 * 100));
  before = sim.clock.Now();
  ASSERT_TRUE(sim.Turn());
  EXPECT_EQ(sim.clock.Now() - before, absl::Milliseconds(5 + 1));
}

TEST(SimModel, WhatCanNotBeMadeIsRefused) {
  EXPECT_THAT(SimModel::Create(SmallSpec(), {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("kv_blocks")));
  ModelSpec tiny = SmallSpec();
  tiny.vocab = 5;
  EXPECT_THAT(SimModel::Create(tiny, {.kv_blocks = 1}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("vocabulary of 5")));
}

}  // namespace
}  // namespace tandem
