#pragma once
#include <cstddef>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// What looks at every logit of a row: a token that is drawn needs each of these once or twice, and
// a vocabulary has up to 150,000 entries.
namespace tandem {

struct RowMax {
  float max = 0;       // -infinity where there is no number
  bool finite = true;  // no logit is NaN or +infinity
};

inline constexpr size_t kMaxBlock = 64;  // logits

// The passes as one instruction set does them. All give the same bits: every sum has one order, and
// nothing is rounded that the others do not round.
struct RowPasses {
  absl::string_view name;
  // sum over i of exp((logits[i] - max) / temperature), each >= 0: 16 lanes (element i goes to lane
  // i % 16), then a tree over the lanes.
  double (*sum_of_exp)(absl::Span<const float> logits, float max, double temperature);
  RowMax (*max)(absl::Span<const float> logits);
  // out[b] = the largest of logits[b * kMaxBlock, (b + 1) * kMaxBlock), where none is NaN.
  //   requires: out.size() == BlocksOfRow(logits.size())
  void (*block_maxima)(absl::Span<const float> logits, absl::Span<float> out);
};

inline size_t BlocksOfRow(size_t logits) { return (logits + kMaxBlock - 1) / kMaxBlock; }

// Of each instruction set that this machine has, the fastest last.
absl::Span<const RowPasses> RowPassesHere();
inline const RowPasses& FastestRowPasses() { return RowPassesHere().back(); }

inline double SumOfExp(absl::Span<const float> logits, float max, double temperature) {
  return FastestRowPasses().sum_of_exp(logits, max, temperature);
}

}  // namespace tandem
