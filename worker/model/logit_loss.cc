#include "worker/model/logit_loss.h"

#include <algorithm>
#include <cmath>

namespace tandem {
namespace {

// log(sum of exp(logit)), so that log p = logit less this.
double LogSum(absl::Span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum);
}

std::ptrdiff_t Top(absl::Span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

}  // namespace

void LogitLossSum::Add(absl::Span<const float> stored, absl::Span<const float> quantized,
                       int32_t next) {
  const double stored_sum = LogSum(stored);
  const double quantized_sum = LogSum(quantized);
  double kl = 0;
  for (size_t i = 0; i < stored.size(); ++i) {
    const double log_p = stored[i] - stored_sum;
    kl += std::exp(log_p) * (log_p - (quantized[i] - quantized_sum));
  }
  const double stored_loss = stored_sum - stored[next];
  const double quantized_loss = quantized_sum - quantized[next];
  const double change = quantized_loss - stored_loss;
  ++tokens_;
  stored_ += stored_loss;
  quantized_ += quantized_loss;
  squares_ += change * change;
  kl_ += std::max(kl, 0.0);  // below 0 by rounding alone
  kl_max_ = std::max(kl_max_, kl);
  same_top_ += Top(stored) == Top(quantized);
}

LogitLoss LogitLossSum::Total() const {
  if (tokens_ == 0) return {};
  const double count = static_cast<double>(tokens_);
  const double loss = (quantized_ - stored_) / count;
  const double variance = std::max(0.0, squares_ / count - loss * loss);
  return {.tokens = tokens_,
          .stored_perplexity = std::exp(stored_ / count),
          .quantized_perplexity = std::exp(quantized_ / count),
          .loss = loss,
          .loss_error = std::sqrt(variance / count),
          .kl_mean = kl_ / count,
          .kl_max = kl_max_,
          .same_top = same_top_};
}

}  // namespace tandem
