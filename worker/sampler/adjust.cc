#include "worker/sampler/adjust.h"

#include <algorithm>
#include <limits>

namespace tandem {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// -infinity stays: such a token is impossible, whatever is added to it.
float InRange(float logit) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  return std::min(logit, kLargest);
}

bool IsNeutral(const SamplingSpec& spec) {
  return spec.presence_penalty == 0 && spec.frequency_penalty == 0 &&
         spec.repetition_penalty == 1 && spec.logit_bias.empty() && spec.allowed_ids.empty();
}

}  // namespace

void LogitAdjuster::Count(absl::Span<const int32_t> ids) {
  for (const int32_t id : ids) {
    if (counts_[id]++ == 0) counted_.push_back(id);
  }
}

void LogitAdjuster::PenalizeRepetition(float penalty, const DrawContext& context) {
  Count(context.prompt);
  Count(context.output);
  for (const int32_t id : counted_) {
    float& logit = logits_[id];
    logit = InRange(logit > 0 ? logit / penalty : logit * penalty);
    counts_[id] = 0;
  }
  counted_.clear();
}

void LogitAdjuster::PenalizeOutput(float frequency, float presence, const DrawContext& context) {
  Count(context.output);
  for (const int32_t id : counted_) {
    float& logit = logits_[id];
    logit = InRange(logit - frequency * static_cast<float>(counts_[id]));
    logit = InRange(logit - presence);
    counts_[id] = 0;
  }
  counted_.clear();
}

absl::StatusOr<absl::Span<const float>> LogitAdjuster::Adjust(absl::Span<const float> logits,
                                                              const SamplingSpec& spec,
                                                              const DrawContext& context) {
  if (IsNeutral(spec) && context.forbidden.empty()) return logits;
  // Below, a broken logit could vanish behind a mask.
  if (const auto likeliest = Argmax(logits); !likeliest.ok()) return likeliest.status();
  logits_.assign(logits.begin(), logits.end());
  counts_.resize(logits.size());
  for (const auto& [id, bias] : spec.logit_bias) logits_[id] = InRange(logits_[id] + bias);
  if (spec.repetition_penalty != 1) PenalizeRepetition(spec.repetition_penalty, context);
  if (spec.frequency_penalty != 0 || spec.presence_penalty != 0) {
    PenalizeOutput(spec.frequency_penalty, spec.presence_penalty, context);
  }
  if (!spec.allowed_ids.empty()) {
    size_t next = 0;  // both ascend
    for (const int32_t id : spec.allowed_ids) {
      std::fill(logits_.begin() + next, logits_.begin() + id, kNever);
      next = static_cast<size_t>(id) + 1;
    }
    std::fill(logits_.begin() + next, logits_.end(), kNever);
  }
  for (const int32_t id : context.forbidden) logits_[id] = kNever;
  return absl::MakeConstSpan(logits_);
}

}  // namespace tandem
