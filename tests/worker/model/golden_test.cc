#include "tests/support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/sequence_runner.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/backend/backends.h"

namespace tandem {
namespace {

constexpr double kTolerance = 1e-4;
constexpr double kMutantLeast = 10 * kTolerance;  // what a mutant must be off by

double WorstError(const Golden& golden, absl::Span<const float> logits) {
  double worst = 0;
  for (size_t at = 0; at < golden.prompt.size(); ++at) {
    worst = std::max(
        worst, RelativeError(logits.subspan(at * golden.vocab, golden.vocab), golden.LogitsAt(at)));
  }
  return worst;
}

class GoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, LogitsAndGreedyTokensAreTransformers) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden(GetParam()));
  for (NamedBackend& named : AllBackends({1})) {
    SCOPED_TRACE(named.name);
    ASSERT_OK_AND_ASSIGN(const auto runner,
                         SequenceRunner::Open(golden.model, std::move(named.backend), {}));
    ASSERT_OK_AND_ASSIGN(absl::Span<const float> logits, runner->Feed(golden.prompt));
    const double worst = WorstError(golden, logits);
    EXPECT_LE(worst, kTolerance);
    RecordProperty("worst_relative_error", absl::StrCat(named.name, " ", worst));
    absl::Span<const float> last = logits.last(golden.vocab);
    for (size_t i = 0; i < golden.greedy.size(); ++i) {
      const int32_t token =
          static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
      ASSERT_EQ(token, golden.greedy[i]) << "token " << i;
      ASSERT_OK_AND_ASSIGN(last, runner->Feed({&token, 1}));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest, testing::ValuesIn(GoldenNames()),
                         [](const auto& info) { return info.param; });

class MutantTest : public testing::TestWithParam<GoldenMutant> {};

TEST_P(MutantTest, IsCaught) {
  ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden(GetParam().golden));
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(golden.model));
  ModelSpec mutant = files->spec();
  GetParam().apply(mutant);
  ASSERT_OK_AND_ASSIGN(const auto runner, SequenceRunner::Open(golden.model, MakeReferenceBackend(),
                                                               {.spec = &mutant}));
  ASSERT_OK_AND_ASSIGN(const auto logits, runner->Feed(golden.prompt));
  EXPECT_GE(WorstError(golden, logits), kMutantLeast)
      << GetParam().golden << ": " << GetParam().name;
}

INSTANTIATE_TEST_SUITE_P(All, MutantTest,
                         testing::ValuesIn(GoldenMutants().begin(), GoldenMutants().end()));

}  // namespace
}  // namespace tandem
