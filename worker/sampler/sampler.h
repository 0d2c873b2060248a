#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace tandem {

// How one request draws its tokens. Ranges are checked where a request enters
// (worker/service/request_check.h), not here.
struct SamplingSpec {
  float temperature = 1.0f;  // 0: greedy, ties to the lowest id
  float top_p = 1.0f;        // (0, 1]
  uint32_t top_k = 0;        // 0: all
  float min_p = 0.0f;        // [0, 1]
  uint64_t seed = 0;
  // worker/sampler/adjust.h applies these; the draw does not look at them.
  float presence_penalty = 0.0f;                      // [-2, 2]
  float frequency_penalty = 0.0f;                     // [-2, 2]
  float repetition_penalty = 1.0f;                    // (0, 10]
  std::vector<std::pair<int32_t, float>> logit_bias;  // each id once
  std::vector<int32_t> allowed_ids;                   // ascending, each once; empty: all
};

// The likeliest id, the lowest of equals. INTERNAL when a logit is NaN or +infinity, or all are
// -infinity: the model is broken, and no token of it can be trusted.
absl::StatusOr<int32_t> Argmax(absl::Span<const float> logits);

// Draws tokens. What it draws is a pure function of its arguments: it divides the logits by the
// temperature, keeps top_k, then top_p, then min_p of the list sorted by (logit descending, id
// ascending), and takes the token at which the running sum of the kept mass passes a uniform number
// that Philox gives for (seed, output_index, position). Every sum has one order.
// `allowed`, if not empty, has one bit a logit, 32 to a word: the list is then of these ids alone,
// as if the model had no others.
//   units   position counts the output's tokens from 0
//   errors  as Argmax; Internal too when no id is allowed
//   threads one at a time: it keeps scratch memory between calls, and nothing else
class Sampler {
 public:
  absl::StatusOr<int32_t> Sample(absl::Span<const float> logits, const SamplingSpec& spec,
                                 uint32_t output_index, uint32_t position,
                                 absl::Span<const uint32_t> allowed = {});

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  absl::StatusOr<int32_t> SampleOfAll(absl::Span<const float> logits, const SamplingSpec& spec,
                                      uint32_t output_index, uint32_t position);
  void Gather(absl::Span<const float> logits, absl::Span<const uint32_t> allowed);
  void GatherMore();
  const Candidate& Sorted(size_t i);  // the i-th likeliest, sorting no more than is asked for
  int32_t Draw(absl::Span<const float> logits, float max, const SamplingSpec& spec, double uniform);
  double KeptMass(const SamplingSpec& spec, float max, size_t limit, double total);

  std::vector<float> allowed_logits_;  // of allowed_ids_, which ascend
  std::vector<int32_t> allowed_ids_;
  // Of the draw under way.
  absl::Span<const float> logits_;
  float cut_ = 0;                      // the candidates are the ids whose logits are not below it
  std::vector<Candidate> candidates_;  // [0, sorted_) in final order, then the rest
  size_t sorted_ = 0;
  std::vector<float> maxima_;         // of the row's blocks; empty until asked for
  std::vector<float> ranked_maxima_;  // the same, for finding the n-th largest
  std::vector<double> running_;       // running_[i] = mass of candidates [0, i]
};

}  // namespace tandem
