#include "router/api/token_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

wv1::SequenceStep Step(uint32_t first, const std::vector<int32_t>& ids, bool finish = false) {
  wv1::SequenceStep step;
  step.set_first_index(first);
  step.mutable_token_ids()->Add(ids.begin(), ids.end());
  if (finish) step.mutable_finish()->set_reason(inference::v1::FINISH_REASON_STOP);
  return step;
}

wv1::SequenceStep WithLogprobs(wv1::SequenceStep step) {
  for (const int32_t id : step.token_ids()) {
    step.add_logprobs()->mutable_token()->set_token_id(id);
  }
  return step;
}

std::vector<int32_t> Drain(TokenLine* line) {
  std::vector<int32_t> out;
  while (std::optional<TokenLine::Token> token = line->Next()) out.push_back(token->id);
  return out;
}

TEST(TokenLine, ForwardsEachIndexOnceThoughTwoWorkersReportIt) {
  TokenLine line(10, false);
  ASSERT_THAT(line.Add(Step(0, {7})), IsOk());
  EXPECT_THAT(Drain(&line), ElementsAre(7));
  ASSERT_THAT(line.Add(Step(0, {7})), IsOk());
  EXPECT_THAT(Drain(&line), ElementsAre());
  ASSERT_THAT(line.Add(Step(1, {8, 9}, true)), IsOk());
  EXPECT_FALSE(line.ended());
  EXPECT_THAT(Drain(&line), ElementsAre(8, 9));
  EXPECT_TRUE(line.ended());
}

TEST(TokenLine, AnIndexWaitsForThoseBeforeIt) {
  TokenLine line(10, false);
  ASSERT_THAT(line.Add(Step(2, {3, 4})), IsOk());
  EXPECT_THAT(Drain(&line), ElementsAre());
  ASSERT_THAT(line.Add(Step(0, {1, 2})), IsOk());
  EXPECT_THAT(Drain(&line), ElementsAre(1, 2, 3, 4));
}

TEST(TokenLine, AnIndexWaitsForItsLogprobs) {
  TokenLine line(10, true);
  ASSERT_THAT(line.Add(Step(0, {1})), IsOk());
  ASSERT_THAT(line.Add(WithLogprobs(Step(1, {2}))), IsOk());
  EXPECT_THAT(Drain(&line), ElementsAre());
  ASSERT_THAT(line.Add(WithLogprobs(Step(0, {1}))), IsOk());
  EXPECT_THAT(Drain(&line), ElementsAre(1, 2));
}

TEST(TokenLine, ReportsThatDifferAreRefused) {
  TokenLine line(10, false);
  ASSERT_THAT(line.Add(Step(0, {1, 2})), IsOk());
  EXPECT_THAT(line.Add(Step(1, {3})),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("output index 1 differ")));
}

TEST(TokenLine, EndsThatDifferAreRefused) {
  TokenLine line(10, false);
  ASSERT_THAT(line.Add(Step(0, {1, 2}, true)), IsOk());
  EXPECT_THAT(line.Add(Step(0, {1, 2}, true)), IsOk());
  EXPECT_THAT(line.Add(Step(0, {1}, true)), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(line.Add(Step(2, {3})), StatusIs(absl::StatusCode::kInternal));
}

TEST(TokenLine, MoreTokensThanAskedForAreRefusedBeforeTheyCostMemory) {
  TokenLine line(3, false);
  EXPECT_THAT(line.Add(Step(4'000'000'000u, {1})),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("at most 3")));
  EXPECT_THAT(line.Add(Step(2, {1, 2})), StatusIs(absl::StatusCode::kInternal));
}

TEST(TokenLine, LogprobsThatDoNotMatchTheirTokensAreRefused) {
  TokenLine line(10, true);
  wv1::SequenceStep step = WithLogprobs(Step(0, {1, 2}));
  step.mutable_logprobs()->RemoveLast();
  EXPECT_THAT(line.Add(step), StatusIs(absl::StatusCode::kInternal));
}

// Against a plain list: however reports are cut, repeated and mixed, the output is the same.
TEST(TokenLine, AnyMixOfReportsGivesTheSameOutput) {
  const auto seed = static_cast<uint32_t>(::testing::UnitTest::GetInstance()->random_seed());
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> want;
    for (uint32_t i = 0; i < 1 + random() % 40; ++i) want.push_back(random() % 1000);
    TokenLine line(want.size(), false);
    std::vector<int32_t> got;
    while (!line.ended()) {
      const uint32_t from = random() % want.size();
      const uint32_t count = 1 + random() % (want.size() - from);
      const bool last = from + count == want.size() && random() % 2 == 0;
      const std::vector<int32_t> part(want.begin() + from, want.begin() + from + count);
      ASSERT_THAT(line.Add(Step(from, part, last)), IsOk());
      for (const int32_t id : Drain(&line)) got.push_back(id);
    }
    EXPECT_EQ(got, want);
  }
}

}  // namespace
}  // namespace tandem
