#include "worker/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mutex.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/fake_handoff.h"
#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

// Hears what a thread tells, and lets the test wait for it.
class WaitingSink final : public StepSink {
 public:
  void OnAccepted(uint64_t handle, uint32_t cached) override {
    MutexLock lock(&mu_);
    record_.OnAccepted(handle, cached);
  }
  void OnRefused(uint64_t handle, const absl::Status& status) override {
    MutexLock lock(&mu_);
    record_.OnRefused(handle, status);
    changed_.NotifyAll();
  }
  void OnStep(StepOutput output) override {
    MutexLock lock(&mu_);
    record_.OnStep(std::move(output));
    changed_.NotifyAll();
  }
  void OnLoad(const EngineLoad& load) override {
    MutexLock lock(&mu_);
    record_.OnLoad(load);
    changed_.NotifyAll();
  }
  bool congested() const override { return false; }

  Heard WaitForEnd(uint64_t handle) {
    MutexLock lock(&mu_);
    while (!record_.heard[handle].over(Role::kUnified)) changed_.Wait(&mu_);
    return record_.heard[handle];
  }
  EngineLoad WaitForIdleLoad() {
    MutexLock lock(&mu_);
    while (record_.last_load.blocks_total == 0 || record_.last_load.running > 0) {
      changed_.Wait(&mu_);
    }
    return record_.last_load;
  }
  size_t tokens(uint64_t handle) {
    MutexLock lock(&mu_);
    return record_.heard[handle].token_ids.size();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  RecordingSink record_ ABSL_GUARDED_BY(mu_);
};

struct EngineHarness {
  EngineHarness() : handoff(model.kv(), model.kv()) {
    engine = *Engine::Start(SmallOptions(), {.model = &model,
                                             .pool = pool.get(),
                                             .sender = &handoff,
                                             .receiver = &handoff,
                                             .clock = RealClock()});
  }
  ToyModel model{{}};
  std::unique_ptr<BlockPool> pool = *BlockPool::Create({.blocks = 64});
  FakeHandoff handoff;
  std::unique_ptr<Engine> engine;
};

TEST(Engine, ServesManySessionsFromManyThreads) {
  EngineHarness h;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&h] {
      auto sink = std::make_shared<WaitingSink>();
      const SessionId session = h.engine->OpenSession(sink);
      for (uint64_t handle = 1; handle <= 20; ++handle) {
        ASSERT_THAT(h.engine->Submit(session, ToyRequest(handle, 10 + handle, 15)), IsOk());
      }
      for (uint64_t handle = 1; handle <= 20; ++handle) {
        EXPECT_EQ(sink->WaitForEnd(handle).token_ids,
                  ExpectedAnswer(ToyRequest(handle, 10 + handle, 15)).token_ids);
      }
      h.engine->CloseSession(session);
    });
  }
  for (std::thread& thread : threads) thread.join();
  h.engine->Drain();
  EXPECT_TRUE(h.engine->WaitDrained(absl::Seconds(20)));
  EXPECT_EQ(h.pool->free_blocks(), 64u);
  EXPECT_GT(h.engine->progress().step_number, 0u);
}

TEST(Engine, ASessionHearsTheLoadWhenItOpensAndWhenItChanges) {
  EngineHarness h;
  auto sink = std::make_shared<WaitingSink>();
  const SessionId session = h.engine->OpenSession(sink);
  EXPECT_EQ(sink->WaitForIdleLoad().blocks_free, 64u);
  ASSERT_THAT(h.engine->Submit(session, ToyRequest(1, 10, 15)), IsOk());
  sink->WaitForEnd(1);
  EXPECT_EQ(sink->WaitForIdleLoad().blocks_free, 64u);
}

TEST(Engine, AnIdleEngineIsNotOld) {
  EngineHarness h;
  auto sink = std::make_shared<WaitingSink>();
  h.engine->OpenSession(sink);
  sink->WaitForIdleLoad();
  EXPECT_LT(h.engine->progress().age, absl::Seconds(5));
}

TEST(Engine, AHandoffMayEndAfterTheEngineStopped) {
  EngineHarness h;
  auto sink = std::make_shared<WaitingSink>();
  const SessionId session = h.engine->OpenSession(sink);
  EngineRequest request = ToyRequest(1, 10, 15);
  request.role = Role::kPrefill;
  ASSERT_THAT(h.engine->Submit(session, request), IsOk());
  while (sink->tokens(1) == 0) std::this_thread::yield();
  h.engine->Stop();
  EXPECT_TRUE(h.handoff.FailSend({"r1", 0}, absl::UnavailableError("late")));
  EXPECT_THAT(h.engine->Submit(session, ToyRequest(2, 1, 1)),
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace tandem
