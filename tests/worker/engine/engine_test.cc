#include "worker/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mutex.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/fake_handoff.h"
#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

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
  EngineLoad WaitForLoad(const std::function<bool(const EngineLoad&)>& wanted) {
    MutexLock lock(&mu_);
    while (!wanted(record_.last_load)) changed_.Wait(&mu_);
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
  explicit EngineHarness(const Clock* clock = RealClock()) : handoff(model.kv(), model.kv()) {
    engine = *Engine::Start(SmallOptions(), {.model = &model,
                                             .pool = pool.get(),
                                             .sender = &handoff,
                                             .receiver = &handoff,
                                             .clock = clock});
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
      const SessionId session = *h.engine->OpenSession(sink);
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
  EXPECT_EQ(h.engine->load().blocks_free, 64u);
  EXPECT_GT(h.engine->progress().step_number, 0u);
}

TEST(Engine, ASessionHearsTheLoadWhenItOpensAndWhenItChanges) {
  EngineHarness h;
  auto sink = std::make_shared<WaitingSink>();
  const SessionId session = *h.engine->OpenSession(sink);
  EXPECT_EQ(sink->WaitForLoad([](const EngineLoad& l) { return l.blocks_total > 0; }).blocks_free,
            64u);
  ASSERT_THAT(h.engine->Submit(session, ToyRequest(1, 10, 15)), IsOk());
  const EngineLoad after = sink->WaitForLoad(
      [](const EngineLoad& l) { return l.decode_tokens_per_second > 0 && l.running == 0; });
  EXPECT_EQ(after.blocks_free, 64u);
}

// Holds the engine's thread in the call that opens the session, until it is released.
class HoldingSink final : public StepSink {
 public:
  void OnAccepted(uint64_t, uint32_t) override {}
  void OnRefused(uint64_t, const absl::Status&) override {}
  void OnStep(StepOutput) override {}
  void OnLoad(const EngineLoad&) override {
    MutexLock lock(&mu_);
    holds_ = true;
    changed_.NotifyAll();
    while (!released_) changed_.Wait(&mu_);
  }
  bool congested() const override { return false; }
  void WaitUntilItHolds() {
    MutexLock lock(&mu_);
    while (!holds_) changed_.Wait(&mu_);
  }
  void Release() {
    MutexLock lock(&mu_);
    released_ = true;
    changed_.NotifyAll();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool holds_ ABSL_GUARDED_BY(mu_) = false;
  bool released_ ABSL_GUARDED_BY(mu_) = false;
};

TEST(Engine, OneThatHangsGrowsOldAndAnIdleOneDoesNot) {
  FakeClock clock;
  EngineHarness h(&clock);
  auto sink = std::make_shared<HoldingSink>();
  ASSERT_THAT(h.engine->OpenSession(sink), IsOk());
  sink->WaitUntilItHolds();
  clock.Advance(absl::Seconds(60));
  EXPECT_EQ(h.engine->progress().age, absl::Seconds(60));
  sink->Release();
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (h.engine->progress().age > absl::ZeroDuration() && absl::Now() < end) {
    std::this_thread::yield();
  }
  EXPECT_EQ(h.engine->progress().age, absl::ZeroDuration());
}

TEST(Engine, ASessionThatFloodsIsRefusedAndCrowdsOutNobody) {
  EngineHarness h;
  auto holding = std::make_shared<HoldingSink>();
  auto sink = std::make_shared<WaitingSink>();
  const SessionId flood = *h.engine->OpenSession(holding);
  holding->WaitUntilItHolds();
  const SessionId other = *h.engine->OpenSession(sink);
  for (uint32_t i = 0; i < Engine::kSubmits; ++i) {
    ASSERT_THAT(h.engine->Submit(flood, ToyRequest(1, 1, 1)), IsOk());
  }
  EXPECT_THAT(h.engine->Submit(flood, ToyRequest(9, 1, 1)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("last 1024 messages")));
  for (uint32_t i = Engine::kSubmits; i < Engine::kMessages; ++i) {
    ASSERT_THAT(h.engine->Cancel(flood, i), IsOk());
  }
  EXPECT_THAT(h.engine->Cancel(flood, 1), StatusIs(absl::StatusCode::kUnavailable));
  ASSERT_THAT(h.engine->Submit(other, ToyRequest(1, 10, 15)), IsOk());
  std::vector<SessionId> opened;
  while (true) {  // opened and closed at once, for ever
    const absl::StatusOr<SessionId> session = h.engine->OpenSession(sink);
    if (!session.ok()) break;
    h.engine->CloseSession(*session);
    opened.push_back(*session);
  }
  EXPECT_LT(opened.size(), 8192u);
  holding->Release();
  EXPECT_EQ(sink->WaitForEnd(1).token_ids, ExpectedAnswer(ToyRequest(1, 10, 15)).token_ids);
  for (int i = 0; i < 200000; ++i) h.engine->Drain();  // more than the queue holds
  EXPECT_TRUE(h.engine->WaitDrained(absl::Seconds(20)));
}

TEST(Engine, AHandoffMayEndAfterTheEngineStopped) {
  EngineHarness h;
  auto sink = std::make_shared<WaitingSink>();
  const SessionId session = *h.engine->OpenSession(sink);
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
