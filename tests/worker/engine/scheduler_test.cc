#include "worker/engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

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

TEST(Scheduler, KeepsItsRulesOnRandomViews) {
  std::mt19937_64 rng(::testing::UnitTest::GetInstance()->random_seed());
  for (int round = 0; round < 20000; ++round) {
    std::vector<ScheduleEntry> held, waiting;
    const auto random_prompt = [&] {
      ScheduleEntry entry = Prompt(1 + rng() % 200, rng() % 10 * 16);
      entry.all_logits = rng() % 4 == 0;
      entry.runnable = rng() % 8 != 0;
      entry.blocks_needed = 1 + rng() % 20;
      return entry;
    };
    for (uint64_t i = rng() % 9; i > 0; --i) {
      held.push_back(rng() % 2 == 0 ? random_prompt() : Decoding());
    }
    for (uint64_t i = rng() % 9; i > 0; --i) waiting.push_back(random_prompt());
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
