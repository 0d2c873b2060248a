#include "worker/engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <tuple>

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

ScheduleEntry Decoding() { return {.pending = 1, .position = 9, .runnable = true}; }
ScheduleEntry Prompt(uint32_t pending, uint32_t position = 0) {
  return {.pending = pending, .position = position, .prefilling = true, .runnable = true};
}
ScheduleEntry Waiting(uint32_t pending, uint32_t blocks) {
  ScheduleEntry entry = Prompt(pending);
  entry.blocks_needed = blocks;
  return entry;
}

Plan PlanFor(const std::vector<ScheduleEntry>& held, const std::vector<ScheduleEntry>& waiting = {},
             uint32_t free_blocks = 100, uint32_t budget = 64) {
  return MakePlan({.limits = {.max_sequences = 8, .max_rows = 64, .max_logit_rows = 32},
                   .held = held,
                   .waiting = waiting,
                   .free_blocks = free_blocks,
                   .budget_tokens = budget});
}

TEST(Scheduler, AdmitsInOrderAndNeverAroundTheFirst) {
  EXPECT_EQ(PlanFor({}, {Waiting(5, 10), Waiting(5, 10), Waiting(5, 1)}, 19).admit, 1u)
      << "the third would fit, but it is not its turn";
  EXPECT_EQ(PlanFor({}, {Waiting(5, 10), Waiting(5, 9)}, 19).admit, 2u);
  EXPECT_EQ(PlanFor({}, {Waiting(5, 20)}, 19).admit, 0u);
}

TEST(Scheduler, AdmitsNoMoreThanMaxSequences) {
  const std::vector<ScheduleEntry> held(6, Decoding());
  EXPECT_EQ(PlanFor(held, std::vector<ScheduleEntry>(5, Waiting(5, 1))).admit, 2u);
}

TEST(Scheduler, AnAdmittedPromptStartsInTheSameStep) {
  const Plan plan = PlanFor({Decoding()}, {Waiting(5, 1)});
  EXPECT_THAT(plan.work, ElementsAre(Work{0, 1}, Work{1, 5}));
}

TEST(Scheduler, DecodingComesFirstAndPromptsShareTheRest) {
  const Plan plan = PlanFor({Prompt(100), Decoding(), Prompt(100), Decoding()});
  EXPECT_THAT(plan.work, ElementsAre(Work{0, 48}, Work{1, 1}, Work{3, 1}))
      << "62 rows are left; 48 end on a block, and 14 are too few for the next one's first block";
}

TEST(Scheduler, AChunkEndsOnABlockOrAtThePromptsEnd) {
  EXPECT_THAT(PlanFor({Prompt(63)}).work, ElementsAre(Work{0, 63}));
  EXPECT_THAT(PlanFor({Prompt(65)}).work, ElementsAre(Work{0, 64}));
  EXPECT_THAT(PlanFor({Prompt(65), Decoding()}).work, ElementsAre(Work{0, 48}, Work{1, 1}));
  EXPECT_THAT(PlanFor({Prompt(17, 48), Prompt(3)}, {}, 100, 16).work, ElementsAre(Work{0, 16}))
      << "no row is left for the second";
}

TEST(Scheduler, ASmallBudgetStillMovesThePromptByABlock) {
  EXPECT_THAT(PlanFor({Prompt(50)}, {}, 100, 1).work, ElementsAre(Work{0, 16}));
  EXPECT_THAT(PlanFor({Decoding(), Decoding(), Prompt(50)}, {}, 100, 1).work,
              ElementsAre(Work{0, 1}, Work{1, 1}, Work{2, 16}));
}

TEST(Scheduler, PromptLogprobsTakeLogitRows) {
  ScheduleEntry all = Prompt(60);
  all.all_logits = true;
  EXPECT_THAT(PlanFor({all}).work, ElementsAre(Work{0, 32}));
  EXPECT_THAT(PlanFor({all, Prompt(8)}).work, ElementsAre(Work{0, 32}))
      << "no logit row is left for the second prompt's end";
  EXPECT_THAT(PlanFor({all, Prompt(40)}).work, ElementsAre(Work{0, 32}, Work{1, 32}));
}

TEST(Scheduler, WhoIsNotRunnableGetsNothing) {
  ScheduleEntry paused = Prompt(10);
  paused.runnable = false;
  EXPECT_THAT(PlanFor({paused}).work, IsEmpty());
  EXPECT_THAT(PlanFor({paused, Decoding()}).work, ElementsAre(Work{1, 1}));
}

// A decoding one that can be preempted for `back` blocks, and lacks `lacks`.
ScheduleEntry Holder(uint64_t arrival, uint32_t back, uint32_t lacks = 0, int32_t priority = 0) {
  ScheduleEntry entry = Decoding();
  entry.arrival = arrival;
  entry.preemptible = true;
  entry.blocks_back = back;
  entry.blocks_needed = lacks;
  entry.priority = priority;
  return entry;
}

TEST(Scheduler, WhoGrowsTakesFreeBlocksAndThenThoseOfTheLatest) {
  const std::vector<ScheduleEntry> held = {Holder(1, 5, 1), Holder(3, 5, 1), Holder(2, 5)};
  EXPECT_THAT(PlanFor(held, {}, 2).preempt, IsEmpty());
  const Plan plan = PlanFor(held, {Waiting(5, 1)}, 1);
  EXPECT_THAT(plan.preempt, IsEmpty()) << "the third has nobody behind it, and does without a row";
  EXPECT_THAT(plan.work, ElementsAre(Work{0, 1}, Work{2, 1}));
  EXPECT_EQ(plan.admit, 0u) << "the next free block is not for who waits";
  const Plan tight = PlanFor(held, {Waiting(5, 1)}, 0);
  EXPECT_THAT(tight.preempt, ElementsAre(1));
  EXPECT_THAT(tight.work, ElementsAre(Work{0, 1}, Work{2, 1}));
  EXPECT_EQ(tight.admit, 0u);
}

TEST(Scheduler, ALowerPriorityIsPreemptedBeforeALaterArrivalAndAPausedOneBeforeBoth) {
  std::vector<ScheduleEntry> held = {Holder(1, 5, 0, -1), Holder(2, 5, 1), Holder(3, 5)};
  EXPECT_THAT(PlanFor(held, {}, 0).preempt, ElementsAre(0));
  held.push_back(Holder(0, 5, 0, 50));
  held.back().paused = true;
  held.back().runnable = false;
  EXPECT_THAT(PlanFor(held, {}, 0).preempt, ElementsAre(3));
  held.back().blocks_back = 0;
  EXPECT_THAT(PlanFor(held, {}, 0).preempt, ElementsAre(3, 0)) << "one was not enough";
}

TEST(Scheduler, WhoHandsOverIsNeverPreempted) {
  std::vector<ScheduleEntry> held = {Holder(1, 5, 1), Holder(2, 5)};
  held[1].preemptible = held[1].runnable = false;
  const Plan plan = PlanFor(held, {}, 0);
  EXPECT_THAT(plan.preempt, IsEmpty());
  EXPECT_THAT(plan.work, IsEmpty());
}

TEST(Scheduler, TheFirstInLineDisplacesALowerPriorityIfItThenFits) {
  std::vector<ScheduleEntry> held = {Holder(1, 5), Holder(2, 5, 0, 3), Holder(3, 5)};
  ScheduleEntry first = Waiting(5, 8);
  first.priority = 1;
  first.arrival = 9;
  Plan plan = PlanFor(held, {first}, 2);
  EXPECT_THAT(plan.preempt, ElementsAre(2, 0)) << "the latest of the lowest first";
  EXPECT_TRUE(plan.displaced);
  EXPECT_EQ(plan.admit, 0u) << "in the next round, when the blocks are free";
  EXPECT_THAT(plan.work, ElementsAre(Work{1, 1}));

  first.blocks_needed = 13;
  EXPECT_THAT(PlanFor(held, {first}, 2).preempt, IsEmpty()) << "for nothing";
  first.blocks_needed = 8;
  EXPECT_THAT(PlanFor(held, {Waiting(5, 8), first}, 2).preempt, IsEmpty())
      << "the first in line has no higher priority";
  held[2].displaced = 1;
  EXPECT_THAT(PlanFor(held, {first}, 2).preempt, IsEmpty())
      << "once displaced it counts as one level higher";
  first.priority = 2;
  EXPECT_THAT(PlanFor(held, {first}, 2).preempt, ElementsAre(2, 0));
}

TEST(Scheduler, ForAPlaceOneIsDisplaced) {
  const std::vector<ScheduleEntry> held(8, Holder(1, 5));
  ScheduleEntry first = Waiting(5, 1);
  EXPECT_THAT(PlanFor(held, {first}).preempt, IsEmpty());
  first.priority = 1;
  EXPECT_EQ(PlanFor(held, {first}).preempt.size(), 1u);
}

TEST(Scheduler, ARequestTakesAPlaceForEachOfItsOutputs) {
  std::vector<ScheduleEntry> held;
  for (uint64_t arrival = 1; arrival <= 5; ++arrival) held.push_back(Holder(arrival, 5));
  ScheduleEntry first = Waiting(5, 1), second = Waiting(5, 1);
  first.sequences = 3;
  EXPECT_EQ(PlanFor(held, {first, second}).admit, 1u) << "of eight places";
  held[0].sequences = 2;
  EXPECT_EQ(PlanFor(held, {first, second}).admit, 0u) << "nobody is let past";
  first.priority = 1;
  EXPECT_EQ(PlanFor(held, {first}).preempt.size(), 1u);
  first.sequences = 5;
  EXPECT_EQ(PlanFor(held, {first}).preempt.size(), 3u);
}

TEST(Scheduler, PreemptsOnlyWhoStandsBehindOnRandomViews) {
  std::mt19937_64 rng(::testing::UnitTest::GetInstance()->random_seed());
  const auto key = [](const ScheduleEntry& e) {
    return std::tuple(e.paused, -e.priority, e.arrival);
  };
  int growths = 0, displacements = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<ScheduleEntry> held, waiting;
    for (uint64_t i = 1 + rng() % 8; i > 0; --i) {
      held.push_back(Holder(i, rng() % 6, rng() % 2, static_cast<int32_t>(rng() % 3)));
      held.back().displaced = rng() % 2;
      held.back().preemptible = rng() % 4 != 0;
      held.back().paused = rng() % 6 == 0;
      held.back().runnable = !held.back().paused && rng() % 8 != 0;
    }
    for (uint64_t i = rng() % 3; i > 0; --i) {
      waiting.push_back(Waiting(5, 1 + rng() % 8));
      waiting.back().priority = static_cast<int32_t>(rng() % 3);
    }
    uint32_t free_blocks = rng() % 6;
    const Plan plan = PlanFor(held, waiting, free_blocks);
    std::vector<bool> runs(held.size()), out(held.size());
    for (const Work& work : plan.work) {
      if (work.entry < held.size()) runs[work.entry] = true;
    }
    for (const uint32_t i : plan.preempt) {
      ASSERT_TRUE(held[i].preemptible && !out[i] && !runs[i]);
      out[i] = true;
      free_blocks += held[i].blocks_back;
      ASSERT_TRUE(!plan.displaced || MayDisplace(waiting[0], held[i]));
    }
    ASSERT_TRUE(plan.preempt.empty() || plan.admit == 0);
    uint64_t taken = 0;
    for (uint32_t i = 0; i < plan.admit; ++i) taken += waiting[i].blocks_needed;
    for (size_t i = 0; i < held.size(); ++i) {
      if (runs[i]) taken += held[i].blocks_needed;
      if (!held[i].runnable || out[i] || runs[i]) continue;
      // It does without a row: then nobody behind it is left that could have given a block.
      for (size_t k = 0; k < held.size(); ++k) {
        ASSERT_FALSE(held[k].preemptible && !out[k] && key(held[i]) < key(held[k]));
      }
    }
    ASSERT_LE(taken, free_blocks);
    (plan.displaced ? displacements : growths) += !plan.preempt.empty();
    if (plan.displaced || plan.preempt.empty()) continue;
    // Somebody who lacks a block stands before all of them.
    const uint32_t best =
        *std::min_element(plan.preempt.begin(), plan.preempt.end(),
                          [&](uint32_t a, uint32_t b) { return key(held[a]) < key(held[b]); });
    ASSERT_TRUE(std::any_of(held.begin(), held.end(), [&](const ScheduleEntry& e) {
      return e.runnable && e.blocks_needed > 0 && key(e) < key(held[best]);
    }));
  }
  EXPECT_GT(growths, 1000);
  EXPECT_GT(displacements, 1000);
}

TEST(Scheduler, KeepsItsRulesOnRandomViews) {
  std::mt19937_64 rng(::testing::UnitTest::GetInstance()->random_seed());
  for (int round = 0; round < 20000; ++round) {
    std::vector<ScheduleEntry> held, waiting;
    const auto random_prompt = [&] {
      ScheduleEntry entry = Prompt(1 + rng() % 200, rng() % 10 * 16);
      entry.all_logits = rng() % 4 == 0;
      entry.runnable = rng() % 8 != 0;
      return entry;
    };
    for (uint64_t i = rng() % 9; i > 0; --i) {
      held.push_back(rng() % 2 == 0 ? random_prompt() : Decoding());
    }
    for (uint64_t i = rng() % 9; i > 0; --i) {
      waiting.push_back(random_prompt());
      waiting.back().blocks_needed = 1 + rng() % 20;
    }
    const uint32_t free_blocks = rng() % 60, budget = rng() % 80;
    const Plan plan = PlanFor(held, waiting, free_blocks, budget);

    ASSERT_LE(held.size() + plan.admit, std::max<size_t>(8, held.size()));
    uint32_t blocks = 0, rows = 0, logit_rows = 0, runnable_prompts = 0, prompt_rows = 0;
    for (uint32_t i = 0; i < plan.admit; ++i) blocks += waiting[i].blocks_needed;
    ASSERT_LE(blocks, free_blocks);
    std::vector<ScheduleEntry> all = held;
    all.insert(all.end(), waiting.begin(), waiting.begin() + plan.admit);
    std::vector<uint32_t> given(all.size());
    for (size_t i = 0; i < plan.work.size(); ++i) {
      const Work& work = plan.work[i];
      ASSERT_TRUE(i == 0 || plan.work[i - 1].entry < work.entry);
      const ScheduleEntry& entry = all[work.entry];
      given[work.entry] = work.rows;
      ASSERT_TRUE(entry.runnable && work.rows > 0 && work.rows <= entry.pending);
      ASSERT_TRUE(work.rows == entry.pending || (entry.position + work.rows) % 16 == 0);
      rows += work.rows;
      logit_rows += entry.all_logits ? work.rows : work.rows == entry.pending;
      if (entry.prefilling) prompt_rows += work.rows;
    }
    for (size_t i = 0; i < all.size(); ++i) {
      if (!all[i].runnable) continue;
      if (!all[i].prefilling) {
        ASSERT_EQ(given[i], 1u);
      } else if (runnable_prompts++ == 0) {
        ASSERT_GE(given[i], std::min(16u, all[i].pending)) << "the first prompt always moves";
      }
    }
    ASSERT_LE(rows, 64u);
    ASSERT_LE(logit_rows, 32u);
    ASSERT_LE(prompt_rows, std::max(16u, budget));
  }
}

}  // namespace
}  // namespace tandem
