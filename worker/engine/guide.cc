#include "worker/engine/guide.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "base/status.h"
#include "worker/engine/guide_pool.h"

namespace tandem {

void Guide::Start(std::unique_ptr<GrammarMatcher> matcher) {
  matcher_ = std::move(matcher);
  mask_.resize(matcher_->mask_words());
  MutexLock lock(&mu_);
  state_ = State::kQueued;
}

absl::StatusOr<absl::Span<const uint32_t>> Guide::Mask() {
  ComputeIfQueued();
  MutexLock lock(&mu_);
  while (state_ == State::kComputing) computed_.Wait(&mu_);
  RETURN_IF_ERROR(Annotate(status_, field_));
  return absl::MakeConstSpan(mask_);
}

absl::StatusOr<bool> Guide::Advance(int32_t token) {
  {
    MutexLock lock(&mu_);
    while (state_ == State::kComputing) computed_.Wait(&mu_);
    state_ = State::kUnset;
  }
  const absl::StatusOr<bool> finished = matcher_->Consume({token});
  if (!finished.ok()) return Annotate(finished.status(), field_);
  if (*finished) return true;
  {
    MutexLock lock(&mu_);
    state_ = State::kQueued;
  }
  pool_->ComputeSoon(this);
  return false;
}

absl::StatusOr<std::shared_ptr<Guide>> Guide::Fork() {
  ASSIGN_OR_RETURN(const absl::Span<const uint32_t> mask, Mask());
  absl::StatusOr<std::unique_ptr<GrammarMatcher>> matcher = matcher_->Fork();
  if (!matcher.ok()) return Annotate(matcher.status(), field_);
  auto fork = std::make_shared<Guide>(pool_, field_, stop_ids_);
  fork->matcher_ = *std::move(matcher);
  fork->mask_.assign(mask.begin(), mask.end());
  MutexLock lock(&fork->mu_);
  fork->state_ = State::kSet;
  return fork;
}

void Guide::ComputeIfQueued() {
  {
    MutexLock lock(&mu_);
    if (state_ != State::kQueued) return;
    state_ = State::kComputing;
  }
  const absl::Time start = absl::Now();
  status_ = Compute();
  pool_->OnMask(absl::Now() - start);
  {
    MutexLock lock(&mu_);
    state_ = State::kSet;
  }
  computed_.NotifyAll();
}

absl::Status Guide::Compute() {
  ASSIGN_OR_RETURN(const bool may_end, matcher_->ComputeMask(absl::MakeSpan(mask_)));
  for (const int32_t id : stop_ids_) {
    const size_t word = static_cast<size_t>(id) / 32;
    if (word >= mask_.size()) continue;
    const uint32_t bit = uint32_t{1} << (id % 32);
    mask_[word] = may_end ? mask_[word] | bit : mask_[word] & ~bit;
  }
  if (std::any_of(mask_.begin(), mask_.end(), [](uint32_t word) { return word != 0; })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      may_end ? "the sentence can only end here, and no token that ends it is among the stop ids"
              : "only tokens that would stop the output continue the sentence");
}

}  // namespace tandem
