// Thousands of requests under a virtual clock and a timing model: a step takes a base time and a
// time for each row. What an engine promises about order, blocks, budgets and stalls, seen from
// outside.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "absl/strings/match.h"
#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

using ::testing::IsEmpty;

constexpr absl::Duration kPerRow = absl::Milliseconds(2), kPerStep = absl::Milliseconds(10);

struct Load {
  uint64_t requests = 2500;
  uint32_t blocks = 64;
  uint32_t lookahead = 8;
  double arrivals_per_second = 6;
  int32_t priorities = 0;  // from minus that to that
  uint32_t cancels_percent = 0;
};

class Simulation {
 public:
  Simulation(const Load& load, uint64_t seed)
      : load_(load),
        rng_(seed),
        h_({.blocks = load.blocks, .per_row = kPerRow, .per_step = kPerStep},
           {.max_sequences = kPlaces,
            .max_queue = 100000,
            .max_batch_tokens = 64,
            .lookahead_tokens = load.lookahead,
            .queue_timeout = absl::InfiniteDuration(),
            .step_target = kTarget}) {
    h_.metrics = &counted_;
    h_.Connect(nullptr, nullptr);
  }

  void Run() {
    absl::Time next = h_.clock.Now();
    while (live_.size() > 0 || requests_.size() < load_.requests) {
      for (; next <= h_.clock.Now() && requests_.size() < load_.requests; next += Gap()) Arrive();
      if (!live_.empty() && rng_() % 100 < load_.cancels_percent) CancelOne();
      Step();
      if (testing::Test::HasFatalFailure()) return;
      if (live_.empty()) h_.clock.Advance(absl::Milliseconds(50));
    }
  }

  void Check() {
    EXPECT_THAT(h_.model.faults, IsEmpty());
    EXPECT_THAT(h_.sink->faults, IsEmpty());
    EXPECT_EQ(h_.core->load().blocks_free, load_.blocks);
    EXPECT_LE(h_.model.largest_batch, 64);
    for (const auto& [handle, told] : requests_) {
      const Heard& heard = h_.sink->heard[handle];
      const ToyAnswer want = ExpectedAnswer(told.request);
      ASSERT_TRUE(heard.finish.has_value()) << handle;
      if (heard.finish->reason != FinishReason::kCancelled) {
        ASSERT_EQ(heard.token_ids, want.token_ids) << handle;
      } else {
        ASSERT_TRUE(
            std::equal(heard.token_ids.begin(), heard.token_ids.end(), want.token_ids.begin()));
      }
    }
  }

  // The most requests that came behind one in the line, and had their first token before it.
  uint64_t MostOvertakers() const {
    uint64_t most = 0;
    for (const auto& [handle, r] : requests_) {
      if (r.first_token == 0) continue;
      uint64_t overtakers = 0;
      for (const auto& [other, o] : requests_) {
        overtakers += o.first_token > 0 && r.place < o.place && o.first_token < r.first_token &&
                      o.arrived >= r.arrived;
      }
      most = std::max(most, overtakers);
    }
    return most;
  }

  bool preempted() const {
    return !absl::StrContains(registry_.Text(), "tandem_worker_preemptions_total{model=\"toy\"} 0");
  }
  uint64_t longest_gap() const { return longest_gap_; }
  absl::Duration longest_step() const { return longest_step_; }

  static constexpr uint32_t kPlaces = 12;
  static constexpr absl::Duration kTarget = absl::Milliseconds(100);

 private:
  struct Told {
    EngineRequest request;
    Place place;
    uint64_t arrived = 0;      // steps
    uint64_t first_token = 0;  // steps; 0: none
    uint64_t last_token = 0;
    size_t tokens = 0;
  };

  absl::Duration Gap() {
    return absl::Seconds(std::exponential_distribution<>(load_.arrivals_per_second)(rng_));
  }

  void Arrive() {
    const uint64_t handle = requests_.size() + 1;
    const bool is_long = rng_() % 8 == 0;
    const uint32_t prompt = is_long ? 150 + rng_() % 250 : 1 + rng_() % 60;
    EngineRequest request = ToyRequest(handle, prompt, 1 + rng_() % (rng_() % 4 == 0 ? 160 : 30));
    if (load_.priorities > 0) {
      request.priority =
          static_cast<int32_t>(rng_() % (2 * load_.priorities + 1)) - load_.priorities;
    }
    Told& told = requests_[handle];
    told.request = request;
    told.place = {h_.clock.Now() - request.priority * h_.options.priority_step, handle};
    told.arrived = steps_;
    live_.insert(handle);
    h_.Submit(std::move(request));
  }

  void CancelOne() {
    auto it = live_.begin();
    std::advance(it, rng_() % live_.size());
    h_.core->Cancel(CoreHarness::kSession, *it);
  }

  void Step() {
    const absl::Time before = h_.clock.Now();
    h_.Turn();
    ++steps_;
    longest_step_ = std::max(longest_step_, h_.clock.Now() - before);
    uint64_t needs = 0;
    for (auto it = live_.begin(); it != live_.end();) {
      Told& told = requests_[*it];
      const Heard& heard = h_.sink->heard[*it];
      needs += BlocksNeeded(told.request, 16);
      if (heard.token_ids.size() > told.tokens) {
        ASSERT_EQ(heard.token_ids.size(), ++told.tokens);
        if (told.tokens == 1) {
          told.first_token = steps_;
        } else {
          longest_gap_ = std::max(longest_gap_, steps_ - told.last_token);
        }
        told.last_token = steps_;
      }
      it = heard.finish ? live_.erase(it) : std::next(it);
    }
    const EngineLoad load = h_.core->load();
    ASSERT_LE(load.blocks_total - load.blocks_free, needs) << "blocks without an owner";
    ASSERT_LE(load.running, kPlaces);
    ASSERT_EQ(load.running + load.waiting, live_.size());
  }

  const Load load_;
  std::mt19937_64 rng_;
  MetricRegistry registry_;
  WorkerMetrics metrics_{&registry_};
  CoreHarness h_;
  EngineMetrics counted_{metrics_, "toy", h_.model.kv()->layout(), load_.blocks};
  std::map<uint64_t, Told> requests_;
  std::set<uint64_t> live_;
  uint64_t steps_ = 0, longest_gap_ = 0;
  absl::Duration longest_step_;
};

std::vector<uint64_t> Seeds() {
  const uint64_t base = ::testing::UnitTest::GetInstance()->random_seed() * 10;
  return {base, base + 1, base + 2};
}

TEST(EngineSimulation, WithBlocksEnoughEveryStepIsATokenForEachAndKeepsItsTime) {
  for (const uint64_t seed : Seeds()) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation({.blocks = 480}, seed);
    simulation.Run();
    simulation.Check();
    EXPECT_FALSE(simulation.preempted());
    EXPECT_EQ(simulation.longest_gap(), 1u) << "a decode waits for one chunk, never for a prompt";
    // The measured speed counts the base time as part of each row, so that the rows of a step take
    // no longer than the target; the least is a row for each that decodes, and a block.
    EXPECT_LE(simulation.longest_step(), Simulation::kTarget + kPerStep);
    EXPECT_LE(simulation.MostOvertakers(), Simulation::kPlaces + 400 / 16)
        << "those that run together, and short prompts that fit beside a long one's chunks";
  }
}

TEST(EngineSimulation, WithTooFewBlocksNobodyStarvesAndNoAnswerChanges) {
  for (const uint64_t seed : Seeds()) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation({.blocks = 36, .lookahead = 1, .arrivals_per_second = 4}, seed);
    simulation.Run();
    simulation.Check();
    EXPECT_TRUE(simulation.preempted());
    EXPECT_LE(simulation.longest_step(), Simulation::kTarget + kPerStep);
    EXPECT_LE(simulation.MostOvertakers(), Simulation::kPlaces + 400 / 16);
  }
}

TEST(EngineSimulation, PrioritiesAndCancellationsLeaveNobodyBehind) {
  for (const uint64_t seed : Seeds()) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation({.blocks = 40,
                           .lookahead = 4,
                           .arrivals_per_second = 5,
                           .priorities = 3,
                           .cancels_percent = 2},
                          seed);
    simulation.Run();
    simulation.Check();
    EXPECT_TRUE(simulation.preempted());
    // Each displacement lets one more past, and there are no more than the priorities differ.
    EXPECT_LE(simulation.MostOvertakers(), Simulation::kPlaces + 400 / 16 + 6);
  }
}

}  // namespace
}  // namespace tandem
