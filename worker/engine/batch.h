#pragma once
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "worker/model/model.h"

namespace tandem {

// Builds the arrays of one model step. Its memory is sized once, so a step allocates nothing.
//   threads the engine's only
class BatchBuilder {
 public:
  enum class Logits : uint8_t { kNone, kLast, kAll };

  BatchBuilder(uint32_t max_rows, uint32_t max_sequences, uint32_t block_tokens);

  void Clear();
  // The tokens of one sequence at [position, position + tokens.size()). `blocks` must stay where
  // they are until the batch has run. Returns the index of its first logit row in the model's
  // answer.
  uint32_t Add(absl::Span<const int32_t> tokens, uint32_t position,
               absl::Span<const BlockId> blocks, Logits logits);

  Batch batch() const { return {token_ids_, slices_, logit_rows_}; }

 private:
  const uint32_t block_tokens_;
  std::vector<int32_t> token_ids_;
  std::vector<SequenceSlice> slices_;
  std::vector<int32_t> logit_rows_;
};

}  // namespace tandem
