#pragma once
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace tandem {

// How far a quantised model's predictions are from those of the stored weights, over the tokens of
// a text that both have read.
//   units   natural logarithms; perplexity = exp(mean of -log p(the token that follows))
struct LogitLoss {
  size_t tokens = 0;  // that were predicted
  double stored_perplexity = 0, quantized_perplexity = 0;
  // Of -log p, quantised less stored: the mean, and the standard error of that mean. The same text
  // makes it far surer than either perplexity.
  double loss = 0, loss_error = 0;
  double kl_mean = 0, kl_max = 0;  // divergence of the quantised distribution from the stored one
  size_t same_top = 0;             // tokens at which both think the same token likeliest
};

// Adds up what makes a LogitLoss.
class LogitLossSum {
 public:
  // The logits of both models at one position, and the token that follows it in the text.
  void Add(absl::Span<const float> stored, absl::Span<const float> quantized, int32_t next);
  LogitLoss Total() const;  // all 0 where nothing was added

 private:
  size_t tokens_ = 0, same_top_ = 0;
  double stored_ = 0, quantized_ = 0, squares_ = 0;  // sums of -log p, and of its change squared
  double kl_ = 0, kl_max_ = 0;
};

}  // namespace tandem
