#include "worker/engine/batch.h"

namespace tandem {

BatchBuilder::BatchBuilder(uint32_t max_rows, uint32_t max_sequences, uint32_t block_tokens)
    : block_tokens_(block_tokens) {
  token_ids_.reserve(max_rows);
  logit_rows_.reserve(max_rows);
  slices_.reserve(max_sequences);
}

void BatchBuilder::Clear() {
  token_ids_.clear();
  slices_.clear();
  logit_rows_.clear();
}

uint32_t BatchBuilder::Add(absl::Span<const int32_t> tokens, uint32_t position,
                           absl::Span<const BlockId> blocks, Logits logits) {
  const int32_t first_row = static_cast<int32_t>(token_ids_.size());
  const int32_t rows = static_cast<int32_t>(tokens.size());
  const uint32_t first_logits = static_cast<uint32_t>(logit_rows_.size());
  token_ids_.insert(token_ids_.end(), tokens.begin(), tokens.end());
  const size_t used = (position + tokens.size() + block_tokens_ - 1) / block_tokens_;
  slices_.push_back({first_row, rows, static_cast<int32_t>(position), blocks.first(used)});
  const int32_t from = logits == Logits::kAll ? 0 : logits == Logits::kLast ? rows - 1 : rows;
  for (int32_t row = from; row < rows; ++row) logit_rows_.push_back(first_row + row);
  return first_logits;
}

}  // namespace tandem
