#include "worker/sampler/logprobs.h"

#include <algorithm>

#include "worker/sampler/exact_math.h"
#include "worker/sampler/row_passes.h"

namespace tandem {
namespace {

// Ids of the n likeliest, in order: one pass with a short sorted list, for small n.
std::vector<int32_t> Likeliest(absl::Span<const float> logits, size_t n) {
  std::vector<int32_t> ids;
  ids.reserve(n + 1);
  for (size_t i = 0; i < logits.size() && n > 0; ++i) {
    if (ids.size() == n && logits[i] <= logits[ids.back()]) continue;
    const auto at =
        std::upper_bound(ids.begin(), ids.end(), logits[i],
                         [&](float logit, int32_t other) { return logit > logits[other]; });
    ids.insert(at, static_cast<int32_t>(i));
    if (ids.size() > n) ids.pop_back();
  }
  return ids;
}

}  // namespace

PositionLogprobs MakeLogprobs(absl::Span<const float> logits, int32_t token_id, uint32_t top_n) {
  const float max = FastestRowPasses().max(logits).max;
  const double log_sum = ExactLog(SumOfExp(logits, max, 1.0));
  const auto logprob = [&](int32_t id) {
    return static_cast<float>((double{logits[id]} - double{max}) - log_sum);
  };
  uint32_t rank = 1;
  for (int32_t id = 0; id < static_cast<int32_t>(logits.size()); ++id) {
    const bool before =
        logits[id] > logits[token_id] || (logits[id] == logits[token_id] && id < token_id);
    rank += before ? 1 : 0;
  }
  PositionLogprobs out;
  out.token = {token_id, logprob(token_id), rank};
  uint32_t next_rank = 1;
  for (const int32_t id : Likeliest(logits, top_n)) {
    out.top.push_back({id, logprob(id), next_rank++});
  }
  return out;
}

}  // namespace tandem
