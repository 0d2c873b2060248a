#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/golden.h"
#include "tests/support/sequence_runner.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

constexpr double kTolerance = 1e-3;

double LogSumExp(absl::Span<const float> logits) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - highest);
  return highest + std::log(sum);
}

// The logits that the oracle kept of a position, in the oracle's order.
std::vector<float> Picked(absl::Span<const float> logits, absl::Span<const int32_t> ids) {
  std::vector<float> picked;
  for (const int32_t id : ids) picked.push_back(logits[id]);
  return picked;
}

double WorstError(absl::Span<const float> got, absl::Span<const float> want, double magnitude) {
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst, std::abs(double{got[i]} - double{want[i]}) / magnitude);
  }
  return worst;
}

int32_t Highest(absl::Span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

class OracleTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(oracle_, ReadOracle());
    ASSERT_EQ(oracle_.prompts.size(), 20);
    ASSERT_OK_AND_ASSIGN(auto backend,
                         MakeCpuBackend({.threads = 1}));  // no waiting for a busy core
    ASSERT_OK_AND_ASSIGN(runner_,
                         SequenceRunner::Open(oracle_.model, std::move(backend), {.context = 512}));
  }

  void CheckPosition(const OraclePosition& want, absl::Span<const float> logits) {
    SCOPED_TRACE(absl::StrCat("position ", want.position));
    const double error =
        std::max(WorstError(Picked(logits, want.top_ids), want.top_logits, want.magnitude),
                 WorstError(Picked(logits, oracle_.subset), want.subset_logits, want.magnitude));
    EXPECT_LE(error, kTolerance);
    worst_ = std::max(worst_, error);
    EXPECT_NEAR(LogSumExp(logits), want.logsumexp, kTolerance * want.magnitude);
  }

  // Feeds the oracle's tokens, so that one near-tie doesn't end the comparison.
  void CheckGreedy(const OraclePrompt& prompt, absl::Span<const float> last, double magnitude) {
    for (size_t i = 0; i < prompt.greedy.size(); ++i) {
      if (prompt.gaps[i] > kTolerance * magnitude) {
        EXPECT_EQ(Highest(last), prompt.greedy[i]) << "token " << i;
      }
      ASSERT_OK_AND_ASSIGN(last, runner_->Feed({&prompt.greedy[i], 1}));
    }
  }

  double worst_ = 0;  // relative error of a logit
  Oracle oracle_;
  std::unique_ptr<SequenceRunner> runner_;
};

TEST_F(OracleTest, LogitsAndGreedyTextOfTheDefaultModelAreFloat32s) {
  for (const OraclePrompt& prompt : oracle_.prompts) {
    SCOPED_TRACE(prompt.about);
    runner_->Restart();
    std::vector<int32_t> wanted;
    for (const OraclePosition& at : prompt.positions) wanted.push_back(at.position);
    ASSERT_OK_AND_ASSIGN(absl::Span<const float> logits, runner_->Feed(prompt.ids, wanted));
    const size_t vocab = logits.size() / wanted.size();
    for (size_t i = 0; i < wanted.size(); ++i) {
      CheckPosition(prompt.positions[i], logits.subspan(i * vocab, vocab));
    }
    CheckGreedy(prompt, logits.last(vocab), prompt.positions.back().magnitude);
  }
  RecordProperty("worst_relative_error", absl::StrCat(worst_));
}

}  // namespace
}  // namespace tandem
