#pragma once
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace tandem {

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;  // natural
  uint32_t rank = 0;  // 1 for the likeliest; equals are ranked by id
  friend bool operator==(const TokenLogprob&, const TokenLogprob&) = default;
};

// The token that stands at one position, and the likeliest ones there, likeliest first.
struct PositionLogprobs {
  TokenLogprob token;
  std::vector<TokenLogprob> top;
  friend bool operator==(const PositionLogprobs&, const PositionLogprobs&) = default;
};

// The log-softmax of raw logits, summed in float64 in one fixed order: the same bits wherever it
// runs.
//   requires finite logits, token_id in [0, logits.size())
PositionLogprobs MakeLogprobs(absl::Span<const float> logits, int32_t token_id, uint32_t top_n);

}  // namespace tandem
