// Thousands of requests under virtual time, with cancels, pauses, deadlines, sessions that break
// and handoffs that fail: whatever happens, each request ends once, and no block is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <set>
#include <utility>

#include "tests/worker/engine/fake_handoff.h"
#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

using ::testing::IsEmpty;

class Walk {
 public:
  explicit Walk(uint64_t seed) : rng_(seed), handoff_(prefill_.model.kv(), decode_.model.kv()) {
    prefill_.metrics = decode_.metrics = &counted_;
    prefill_.Connect(&handoff_, nullptr);
    decode_.Connect(nullptr, &handoff_);
  }

  void Run(uint64_t requests) {
    while (last_handle_ < requests) {
      if (Chance(40)) Arrive();
      if (Chance(8)) Disturb();
      Turn();
    }
    while (!paused_.empty()) ResumeOldest();
    for (int i = 0; i < 20000 && !Quiet(); ++i) Turn();
    Turn();  // tells what the last one ended
  }

  void Check() {
    EXPECT_EQ(prefill_.core->load().blocks_free, prefill_.pool->blocks());
    EXPECT_EQ(decode_.core->load().blocks_free, decode_.pool->blocks());
    EXPECT_THAT(handoff_.faults, IsEmpty());
    for (CoreHarness* h : {&prefill_, &decode_}) {
      EXPECT_THAT(h->sink->faults, IsEmpty());
      EXPECT_THAT(h->model.faults, IsEmpty());
      EXPECT_LE(h->model.largest_batch, 64);
      EXPECT_EQ(h->core->load().waiting, 0u);
      EXPECT_EQ(h->core->load().running, 0u);
      for (const auto& [handle, role] : h->sink->roles) CheckHeard(*h, handle, role);
    }
    EXPECT_GT(complete_, requests_.size() / 8) << "the walk should not only cancel";
    EXPECT_THAT(registry_.Text(),
                testing::ContainsRegex("tandem_worker_preemptions_total.model=.toy.. [0-9][0-9]"));
  }

 private:
  bool Chance(uint32_t percent) { return rng_() % 100 < percent; }
  uint64_t SomeHandle() { return 1 + (last_handle_ > 30 ? last_handle_ - 30 : 0) + rng_() % 30; }
  bool Quiet() const {
    return handoff_.open() == 0 && prefill_.core->load().running + prefill_.core->load().waiting +
                                           decode_.core->load().running +
                                           decode_.core->load().waiting ==
                                       0;
  }

  void Arrive() {
    EngineRequest request = ToyRequest(++last_handle_, 1 + rng_() % 120, 1 + rng_() % 40);
    if (Chance(50)) {  // begins as many others do
      const EngineRequest common = ToyRequest(1000000 + rng_() % 3, 1 + rng_() % 100, 1);
      request.prompt.insert(request.prompt.begin(), common.prompt.begin(), common.prompt.end());
    }
    if (Chance(25)) request.outputs = 2 + rng_() % 3;
    if (Chance(10)) request.cache_bypass = true;
    if (Chance(10)) request.cache_salt = "salt";
    if (Chance(30)) request.sampling.temperature = 0;
    if (Chance(20)) request.logprobs = rng_() % 4;
    if (Chance(30)) request.priority = static_cast<int32_t>(rng_() % 7) - 3;
    if (Chance(10)) request.prompt_logprobs = rng_() % 3;
    if (Chance(30)) request.stop_ids = {0, 7, 13};
    if (Chance(20)) Adjust(request, rng_() % 100);
    if (Chance(5)) request.time_limit = absl::Milliseconds(1 + rng_() % 200);
    if (Chance(10)) request.deadline = prefill_.clock.Now() + absl::Milliseconds(rng_() % 2000);
    requests_[request.handle] = request;
    CoreHarness& unified = Chance(50) ? prefill_ : decode_;
    const bool alone = Chance(50);
    if (Chance(30) && (alone || request.outputs == 1)) Resume(request);
    if (alone) return unified.Submit(request);
    EngineRequest decode = request;
    request.role = Role::kPrefill;
    decode.role = Role::kDecode;
    split_.insert(request.handle);
    if (!Chance(3)) prefill_.Submit(request);
    if (!Chance(3)) decode_.Submit(decode);
  }

  // As if other workers had come so far with it.
  void Resume(EngineRequest& request) {
    request.resume.resize(request.outputs);
    for (uint32_t i = 0; i < request.outputs; ++i) {
      ResumedOutput& one = request.resume[i];
      one.tokens = ExpectedAnswer(request, i).token_ids;
      one.tokens.resize(rng_() % one.tokens.size());
      one.ended = i > 0 && Chance(20);
    }
    std::swap(request.resume.front().ended, request.resume.back().ended);
  }

  // What a router does: where one side is lost, the other is cancelled.
  void CancelTheOtherSides() {
    const auto lost = [](const CoreHarness& h, uint64_t handle) {
      if (!h.sink->roles.contains(handle)) return true;
      const Heard& heard = h.sink->heard[handle];
      return heard.refused > 0 || !heard.error.ok() || heard.cut_off() ||
             std::any_of(heard.others.begin(), heard.others.end(),
                         [](const HeardOutput& output) { return output.cut_off(); });
    };
    std::erase_if(split_, [&](uint64_t handle) {
      const bool prefill = lost(prefill_, handle), decode = lost(decode_, handle);
      if (prefill) decode_.core->Cancel(CoreHarness::kSession, handle);
      if (decode) prefill_.core->Cancel(CoreHarness::kSession, handle);
      return prefill || decode;
    });
  }

  // A paused request keeps its blocks: too many of them, and the walk would only refuse.
  void Pause(CoreHarness& h, uint64_t handle) {
    h.core->SetPaused(CoreHarness::kSession, handle, true);
    paused_.emplace_back(&h, handle);
  }
  void ResumeOldest() {
    if (paused_.empty()) return;
    const auto [h, handle] = paused_.front();
    paused_.pop_front();
    h->core->SetPaused(CoreHarness::kSession, handle, false);
  }

  void Disturb() {
    CoreHarness& h = Chance(50) ? prefill_ : decode_;
    switch (rng_() % 4) {
      case 0:
        return h.core->Cancel(CoreHarness::kSession, SomeHandle());
      case 1:
        return Pause(h, SomeHandle());
      case 2:
        h.sink->is_congested = Chance(20);
        return;
      default:
        const std::vector<HandoffKey> keys = Chance(50) ? handoff_.sending() : handoff_.expecting();
        if (keys.empty() || !Chance(20)) return;
        const HandoffKey key = keys[rng_() % keys.size()];
        // Both sides of a real handoff hear of its end sooner or later.
        handoff_.FailSend(key, absl::DataLossError("digest"));
        handoff_.FailReceive(key, absl::AbortedError("digest"));
    }
  }

  void Turn() {
    for (CoreHarness* h : {&prefill_, &decode_}) {
      h->Turn();
      h->clock.Advance(absl::Milliseconds(1));
    }
    if (Chance(5)) ResumeOldest();
    if (Chance(10)) CancelTheOtherSides();
    if (Chance(60)) handoff_.Deliver();
    // A side that waits for a peer that is not coming ends by its deadline.
    for (const HandoffKey& key : handoff_.sending()) {
      if (!Chance(1)) continue;
      handoff_.FailSend(key, absl::DeadlineExceededError("no peer"));
      handoff_.FailReceive(key, absl::DeadlineExceededError("no peer"));
    }
    for (const HandoffKey& key : handoff_.expecting()) {
      if (Chance(1)) handoff_.FailReceive(key, absl::DeadlineExceededError("no peer"));
    }
    prefill_.sink->is_congested &= !Chance(30);
    decode_.sink->is_congested &= !Chance(30);
  }

  void CheckHeard(CoreHarness& h, uint64_t handle, Role role) {
    SCOPED_TRACE(testing::Message() << "request " << handle);
    const Heard& heard = h.sink->heard[handle];
    EXPECT_EQ(heard.accepted + heard.refused, 1);
    EXPECT_TRUE(heard.over(role));
    for (uint32_t i = 0; i < requests_[handle].outputs; ++i) {
      SCOPED_TRACE(testing::Message() << "output " << i);
      CheckOutput(heard.output(i), ExpectedAnswer(requests_[handle], i), role);
    }
  }

  void CheckOutput(const HeardOutput& heard, const ToyAnswer& want, Role role) {
    const auto rest = absl::MakeConstSpan(want.token_ids).subspan(heard.resumed);
    ASSERT_LE(heard.token_ids.size(), rest.size());
    EXPECT_TRUE(std::equal(heard.token_ids.begin(), heard.token_ids.end(), rest.begin()));
    if (!heard.finish || heard.cut_off()) return;
    ++complete_;
    EXPECT_EQ(heard.token_ids, rest);
    if (role == Role::kUnified && !want.logprobs.empty()) {
      EXPECT_EQ(heard.logprobs, absl::MakeConstSpan(want.logprobs).subspan(heard.resumed));
    }
  }

  std::mt19937_64 rng_;
  MetricRegistry registry_;
  WorkerMetrics worker_metrics_{&registry_};
  const EngineOptions options_ = {
      .max_sequences = 12, .max_queue = 40, .max_batch_tokens = 64, .lookahead_tokens = 8};
  CoreHarness prefill_{{.blocks = 48, .per_row = absl::Milliseconds(1)}, options_};
  CoreHarness decode_{{.blocks = 48, .per_row = absl::Milliseconds(1)}, options_};
  EngineMetrics counted_{worker_metrics_, "toy", prefill_.model.kv()->layout(), 96};
  FakeHandoff handoff_;
  std::map<uint64_t, EngineRequest> requests_;
  std::set<uint64_t> split_;  // handles, of which no side is known to be lost
  std::deque<std::pair<CoreHarness*, uint64_t>> paused_;  // oldest first
  uint64_t last_handle_ = 0;
  size_t complete_ = 0;
};

TEST(EngineWalk, EveryRequestEndsOnceAndNoBlockIsLost) {
  for (uint64_t i = 0; i < 4; ++i) {
    const uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed() * 10 + i;
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Walk walk(seed);
    walk.Run(1500);
    walk.Check();
  }
}

// Records in which order requests get their first tokens.
class OrderSink final : public StepSink {
 public:
  void OnAccepted(uint64_t, uint32_t) override {}
  void OnRefused(uint64_t, const absl::Status&) override { ++refused; }
  void OnStep(StepOutput output) override {
    for (const SequenceOutput& sequence : output.sequences) {
      if (sequence.first_index == 0) order.push_back(sequence.handle);
    }
  }
  void OnLoad(const EngineLoad&) override {}
  bool congested() const override { return false; }
  std::vector<uint64_t> order;
  int refused = 0;
};

TEST(EngineWalk, NobodyStarvesAndNobodyIsOvertakenByMoreThanRunAtOnce) {
  const uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  EngineOptions options = SmallOptions();
  options.queue_timeout = absl::InfiniteDuration();
  CoreHarness h({.blocks = 40, .per_row = absl::Milliseconds(1)}, options);
  const SessionId session{2};
  auto sink = std::make_shared<OrderSink>();
  h.core->OpenSession(session, sink);
  uint64_t submitted = 0;
  while (submitted < 2000) {
    // Long prompts among short ones, offered a little faster than they can be served.
    while (h.core->load().waiting < 20 && submitted < 2000) {
      const uint32_t prompt = rng() % 10 == 0 ? 300 + rng() % 200 : 1 + rng() % 30;
      h.core->Submit(session, ToyRequest(++submitted, prompt, 1 + rng() % 30));
    }
    h.Turn();
  }
  h.RunDry();
  EXPECT_EQ(sink->refused, 0);
  ASSERT_EQ(sink->order.size(), 2000u);
  for (size_t i = 0; i < sink->order.size(); ++i) {
    ASSERT_LT(sink->order[i], i + 1 + options.max_sequences);
  }
  EXPECT_EQ(h.core->load().blocks_free, h.pool->blocks());
}

}  // namespace
}  // namespace tandem
