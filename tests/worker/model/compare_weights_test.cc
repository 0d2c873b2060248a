#include "worker/model/compare_weights.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "base/block_hash.h"
#include "tests/support/golden.h"
#include "tests/support/sequence_runner.h"
#include "tests/support/status_matchers.h"
#include "text/tokenizer.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

TEST(LogitLoss, IsNothingForEqualDistributions) {
  LogitLossSum sum;
  sum.Add({0, 1, 2}, {5, 6, 7}, 1);  // a shift of all logits changes no probability
  const LogitLoss loss = sum.Total();
  EXPECT_EQ(loss.tokens, 1);
  EXPECT_NEAR(loss.loss, 0, 1e-12);
  EXPECT_NEAR(loss.kl_max, 0, 1e-12);
  EXPECT_EQ(loss.same_top, 1);
}

TEST(LogitLoss, IsWhatItsDefinitionsSay) {
  const float log3 = std::log(3.0f);
  LogitLossSum sum;
  sum.Add({0, log3}, {0, 0}, 1);  // 3/4 became 1/2
  sum.Add({0, log3}, {0, 0}, 0);  // 1/4 became 1/2
  const LogitLoss loss = sum.Total();
  EXPECT_NEAR(loss.stored_perplexity, std::sqrt(4.0 / 3 * 4), 1e-6);
  EXPECT_NEAR(loss.quantized_perplexity, 2, 1e-6);
  EXPECT_NEAR(loss.loss, std::log(2.0) - std::log(16.0 / 3) / 2, 1e-6);
  EXPECT_NEAR(loss.loss_error, std::log(3.0) / 2 / std::sqrt(2.0), 1e-6);
  EXPECT_NEAR(loss.kl_mean, 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-6);
  EXPECT_EQ(loss.same_top, 0);
  EXPECT_EQ(LogitLossSum().Total().tokens, 0);
}

absl::StatusOr<WeightsComparison> Compare(absl::string_view golden, absl::string_view text,
                                          CompareOptions options) {
  ASSIGN_OR_RETURN(const Golden model, ReadGolden(golden));
  ASSIGN_OR_RETURN(const auto files, ModelFiles::Open(model.model));
  options.threads = 1;
  return CompareWeights(*files, text, options);
}

TEST(CompareWeights, FewerBitsLoseMore) {
  ASSERT_OK_AND_ASSIGN(const auto eight, Compare("gqa", SampleText(), {.tokens_max = 600}));
  ASSERT_OK_AND_ASSIGN(
      const auto four,
      Compare("gqa", SampleText(), {.weights = WeightScheme::kInt4, .tokens_max = 600}));
  EXPECT_GT(eight.loss.kl_mean, 0);
  EXPECT_GT(four.loss.kl_mean, 10 * eight.loss.kl_mean);
  EXPECT_LT(four.loss.same_top, eight.loss.same_top);
  EXPECT_EQ(eight.loss.stored_perplexity, four.loss.stored_perplexity);
  EXPECT_LT(four.quantized_bytes, eight.quantized_bytes);
  EXPECT_LT(eight.quantized_bytes, eight.stored_bytes);
  EXPECT_EQ(eight.text_tokens, 600);
}

// What the windows make of a text is what one forward pass over each says.
TEST(CompareWeights, EachWindowIsReadAsOneSequence) {
  constexpr int32_t kWindow = 100;
  constexpr size_t kTokens = 230;
  ASSERT_OK_AND_ASSIGN(const auto compared,
                       Compare("gqa", SampleText(), {.window = kWindow, .tokens_max = kTokens}));
  EXPECT_EQ(compared.loss.tokens, kTokens - 3);

  ASSERT_OK_AND_ASSIGN(const Golden golden, ReadGolden("gqa"));
  ASSERT_OK_AND_ASSIGN(const auto files, ModelFiles::Open(golden.model));
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       Tokenizer::FromJson(files->assets().Find("tokenizer.json")->data));
  ASSERT_OK_AND_ASSIGN(auto tokens, tokenizer->Encode(SampleText(), {.add_special = true}));
  tokens.resize(kTokens);
  ASSERT_OK_AND_ASSIGN(auto backend, MakeCpuBackend({.threads = 1}));
  ASSERT_OK_AND_ASSIGN(const auto runner, SequenceRunner::Open(golden.model, std::move(backend),
                                                               {.context = kWindow}));
  double loss = 0;
  for (size_t begin = 0; begin < kTokens; begin += kWindow) {
    const auto window = absl::MakeConstSpan(tokens).subspan(begin, kWindow);
    runner->Restart();
    ASSERT_OK_AND_ASSIGN(const auto logits, runner->Feed(window));
    for (size_t i = 0; i + 1 < window.size(); ++i) {
      const auto row = logits.subspan(i * golden.vocab, golden.vocab);
      double sum = 0;
      for (const float logit : row) sum += std::exp(static_cast<double>(logit));
      loss += std::log(sum) - row[window[i + 1]];
    }
  }
  EXPECT_NEAR(compared.loss.stored_perplexity, std::exp(loss / (kTokens - 3)),
              1e-9 * compared.loss.stored_perplexity);
}

TEST(CompareWeights, ActivationsAloneCanBeCompared) {
  ASSERT_OK_AND_ASSIGN(const auto compared, Compare("gguf_q4_0", SampleText(),
                                                    {.weights = WeightScheme::kStored,
                                                     .activations = Activations::kInt8,
                                                     .tokens_max = 100}));
  EXPECT_EQ(compared.quantized_bytes, compared.stored_bytes);
  EXPECT_GT(compared.loss.kl_mean, 0);
}

TEST(CompareWeights, WhatCanNotBeComparedIsNamed) {
  EXPECT_THAT(Compare("gguf_q4_0", SampleText(), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("changes none")));
  EXPECT_THAT(Compare("gqa", "", {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fewer than two tokens")));
  EXPECT_THAT(Compare("gqa", "\xff\xfe text", {}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CompareWeights, TextAndJsonSayTheSame) {
  ASSERT_OK_AND_ASSIGN(const auto compared, Compare("gqa", SampleText(), {.tokens_max = 50}));
  const auto json = nlohmann::json::parse(ComparisonJson(compared), nullptr, false);
  EXPECT_EQ(json["weights"], "int8");
  EXPECT_EQ(json["predicted_tokens"], 49);
  EXPECT_EQ(json["stored_perplexity"], compared.loss.stored_perplexity);
  EXPECT_EQ(json["text_sha256"], compared.text_digest);
  const std::string text = ComparisonText(compared);
  EXPECT_THAT(text, HasSubstr("int8 weights"));
  EXPECT_THAT(text, HasSubstr(compared.text_digest));
  EXPECT_THAT(text, HasSubstr("49 were predicted"));
}

// Figures on another text would not compare with those that are written down.
TEST(SampleText, NeverChanges) {
  EXPECT_EQ(Sha256Hex(SampleText()),
            "2599382d94c35671f1bd52d648ae973e155c51fb482861274fcc4cea3a2e116b");
}

}  // namespace
}  // namespace tandem
