#include "worker/sampler/sampler.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "base/status.h"
#include "worker/sampler/exact_math.h"
#include "worker/sampler/philox.h"
#include "worker/sampler/row_passes.h"

namespace tandem {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
// How many candidates are sorted at first, and by how much more when these do not suffice: most
// draws need a few dozen.
constexpr size_t kFirst = 64, kGrowth = 4;

}  // namespace

absl::StatusOr<int32_t> Argmax(absl::Span<const float> logits) {
  const RowMax row = FastestRowPasses().max(logits);
  if (!row.finite || row.max == kLowest) {
    return absl::InternalError("the model's logits are not finite");
  }
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), row.max) - logits.begin());
}

absl::StatusOr<int32_t> Sampler::Sample(absl::Span<const float> logits, const SamplingSpec& spec,
                                        uint32_t output_index, uint32_t position,
                                        absl::Span<const uint32_t> allowed) {
  if (allowed.empty()) return SampleOfAll(logits, spec, output_index, position);
  RETURN_IF_ERROR(Argmax(logits).status());  // also where what is broken is not allowed
  Gather(logits, allowed);
  if (allowed_ids_.empty()) return absl::InternalError("no token is allowed");
  ASSIGN_OR_RETURN(const int32_t drawn, SampleOfAll(allowed_logits_, spec, output_index, position));
  return allowed_ids_[drawn];
}

void Sampler::Gather(absl::Span<const float> logits, absl::Span<const uint32_t> allowed) {
  allowed_logits_.clear();
  allowed_ids_.clear();
  for (size_t word = 0; word < allowed.size(); ++word) {
    for (uint32_t bits = allowed[word]; bits != 0; bits &= bits - 1) {
      const size_t id = word * 32 + std::countr_zero(bits);
      if (id >= logits.size()) return;
      allowed_logits_.push_back(logits[id]);
      allowed_ids_.push_back(static_cast<int32_t>(id));
    }
  }
}

absl::StatusOr<int32_t> Sampler::SampleOfAll(absl::Span<const float> logits,
                                             const SamplingSpec& spec, uint32_t output_index,
                                             uint32_t position) {
  absl::StatusOr<int32_t> likeliest = Argmax(logits);
  if (!likeliest.ok() || spec.temperature == 0) return likeliest;
  return Draw(logits, logits[*likeliest], spec, UniformAt(spec.seed, output_index, position));
}

// Adds to the candidates, behind all that are there, as many as are as large as the n-th largest of
// the maxima of the row's blocks: n or more, found without a look at most of the row.
void Sampler::GatherMore() {
  if (maxima_.empty()) {
    maxima_.resize(BlocksOfRow(logits_.size()));
    FastestRowPasses().block_maxima(logits_, absl::MakeSpan(maxima_));
  }
  const float above = cut_;
  const size_t wanted = std::max(kFirst, candidates_.size() * kGrowth);
  cut_ = kLowest;
  if (wanted <= maxima_.size()) {
    ranked_maxima_ = maxima_;
    const auto last = ranked_maxima_.begin() + (wanted - 1);
    std::nth_element(ranked_maxima_.begin(), last, ranked_maxima_.end(), std::greater<float>());
    cut_ = *last;
  }
  for (size_t block = 0; block < maxima_.size(); ++block) {
    if (maxima_[block] < cut_) continue;
    const size_t end = std::min(logits_.size(), (block + 1) * kMaxBlock);
    for (size_t i = block * kMaxBlock; i < end; ++i) {
      if (logits_[i] < cut_ || logits_[i] >= above) continue;
      candidates_.push_back({logits_[i], static_cast<int32_t>(i)});
    }
  }
}

const Sampler::Candidate& Sampler::Sorted(size_t i) {
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  while (i >= sorted_) {
    if (sorted_ == candidates_.size()) GatherMore();
    const size_t end = std::min(candidates_.size(), std::max(kFirst, sorted_ * kGrowth));
    const auto first = candidates_.begin() + sorted_, last = candidates_.begin() + end;
    if (end < candidates_.size()) std::nth_element(first, last - 1, candidates_.end(), before);
    std::sort(first, last, before);
    sorted_ = end;
  }
  return candidates_[i];
}

// Cuts the list behind top_p and min_p and returns the mass in front of the cut; running_ holds its
// running sums. `total` is the mass of the first `limit` candidates.
double Sampler::KeptMass(const SamplingSpec& spec, float max, size_t limit, double total) {
  const double enough =
      spec.top_p < 1 ? double{spec.top_p} * total : std::numeric_limits<double>::infinity();
  double sum = 0;
  for (size_t i = 0; i < limit && sum < enough; ++i) {
    const double weight =
        ExactExp((double{Sorted(i).logit} - double{max}) / double{spec.temperature});
    if (weight < double{spec.min_p}) break;  // the likeliest weighs 1
    sum += weight;
    running_.push_back(sum);
  }
  return sum;
}

int32_t Sampler::Draw(absl::Span<const float> logits, float max, const SamplingSpec& spec,
                      double uniform) {
  logits_ = logits;
  cut_ = std::numeric_limits<float>::infinity();
  maxima_.clear();
  candidates_.clear();
  sorted_ = 0;
  running_.clear();

  const double temperature = spec.temperature;
  const bool top_k = spec.top_k > 0 && spec.top_k < logits.size();
  const size_t limit = top_k ? spec.top_k : logits.size();
  const auto weight = [&](size_t i) {
    return ExactExp((double{Sorted(i).logit} - double{max}) / temperature);
  };
  double total = 0;
  if (top_k) {
    for (size_t i = 0; i < limit; ++i) total += weight(i);
  } else {
    total = SumOfExp(logits, max, temperature);
  }
  if (spec.top_p < 1 || spec.min_p > 0) {
    const double target = uniform * KeptMass(spec, max, limit, total);
    const auto it = std::upper_bound(running_.begin(), running_.end(), target);
    const size_t i = std::min<size_t>(it - running_.begin(), running_.size() - 1);
    return Sorted(i).id;
  }
  double sum = 0;
  size_t last = 0;  // rounding may leave the sum just below the target: then the last with mass
  for (size_t i = 0; i < limit; ++i) {
    const double w = weight(i);
    if (w == 0) break;
    last = i;
    sum += w;
    if (sum > uniform * total) break;
  }
  return Sorted(last).id;
}

}  // namespace tandem
