#include "tests/support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "tests/support/status_matchers.h"
#include "worker/model/decoder.h"
#include "worker/model/model_files.h"

namespace tandem {
namespace {

constexpr double kTolerance = 1e-4;
constexpr double kMutantLeast = 10 * kTolerance;  // what a mutant must be off by

// A tiny model on the reference backend, fed as one sequence.
class Runner {
 public:
  static absl::StatusOr<std::unique_ptr<Runner>> Open(const std::string& path,
                                                      const ModelSpec* instead = nullptr) {
    std::unique_ptr<Runner> runner(new Runner);
    ASSIGN_OR_RETURN(runner->files_, ModelFiles::Open(path));
    const auto find = [&](absl::string_view name, int layer) {
      return runner->files_->Weight(name, layer);
    };
    const ModelSpec& spec = instead == nullptr ? runner->files_->spec() : *instead;
    ASSIGN_OR_RETURN(runner->decoder_,
                     Decoder::Load(spec, find, runner->backend_.get(),
                                   {.kv_blocks = 8, .max_rows = 128, .max_logit_rows = 128}));
    return runner;
  }

  absl::StatusOr<absl::Span<const float>> Feed(absl::Span<const int32_t> tokens) {
    const int32_t rows = static_cast<int32_t>(tokens.size());
    std::vector<int32_t> all(rows);
    std::iota(all.begin(), all.end(), 0);
    const SequenceSlice slice{0, rows, position_, blocks_};
    position_ += rows;
    return decoder_->Forward({tokens, {&slice, 1}, all}, nullptr);
  }

 private:
  Runner() {
    for (uint32_t block = 0; block < 8; ++block) blocks_.push_back(BlockId{block});
  }

  std::unique_ptr<Backend> backend_ = MakeReferenceBackend();
  std::unique_ptr<ModelFiles> files_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<BlockId> blocks_;
  int32_t position_ = 0;
};

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
  ASSERT_OK_AND_ASSIGN(const auto runner, Runner::Open(golden.model));
  ASSERT_OK_AND_ASSIGN(absl::Span<const float> logits, runner->Feed(golden.prompt));
  const double worst = WorstError(golden, logits);
  EXPECT_LE(worst, kTolerance);
  RecordProperty("worst_relative_error", absl::StrCat(worst));
  absl::Span<const float> last = logits.last(golden.vocab);
  for (size_t i = 0; i < golden.greedy.size(); ++i) {
    const int32_t token =
        static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
    ASSERT_EQ(token, golden.greedy[i]) << "token " << i;
    ASSERT_OK_AND_ASSIGN(last, runner->Feed({&token, 1}));
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
  ASSERT_OK_AND_ASSIGN(const auto runner, Runner::Open(golden.model, &mutant));
  ASSERT_OK_AND_ASSIGN(const auto logits, runner->Feed(golden.prompt));
  EXPECT_GE(WorstError(golden, logits), kMutantLeast)
      << GetParam().golden << ": " << GetParam().name;
}

INSTANTIATE_TEST_SUITE_P(All, MutantTest,
                         testing::ValuesIn(GoldenMutants().begin(), GoldenMutants().end()));

}  // namespace
}  // namespace tandem
