#pragma once
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

// Who is admitted and who runs in the next step: a pure function of a snapshot.
namespace tandem {

struct ScheduleLimits {
  uint32_t max_sequences = 0;   // that hold blocks at once
  uint32_t max_rows = 0;        // of one batch: >= max_sequences + block_tokens
  uint32_t max_logit_rows = 0;  // of one batch: >= max_sequences + block_tokens
  uint32_t block_tokens = 16;
};

// A sequence that holds blocks, or one that waits for them.
struct ScheduleEntry {
  uint32_t pending = 0;        // tokens to compute: the rest of the prompt, or 1 when decoding
  uint32_t position = 0;       // of the first of them
  bool prefilling = false;     // else decoding
  bool runnable = false;       // false: paused, waiting for KV, sending
  bool all_logits = false;     // prefilling with prompt_logprobs
  uint32_t blocks_needed = 0;  // of a waiting one
};

struct View {
  ScheduleLimits limits;
  absl::Span<const ScheduleEntry> held;     // in order of admission
  absl::Span<const ScheduleEntry> waiting;  // in order of arrival
  uint32_t free_blocks = 0;
  uint32_t budget_tokens = 0;  // rows that keep the step short enough; decoding may pass it
};

struct Work {
  uint32_t entry = 0;  // index into `held` followed by the admitted ones
  uint32_t rows = 0;   // > 0
  friend bool operator==(const Work&, const Work&) = default;
};

struct Plan {
  uint32_t admit = 0;      // that many from the front of `waiting`
  std::vector<Work> work;  // one a sequence at most, in order of `entry`
};

// Rules, each with a test:
//   1  first come, first served: a waiting sequence is admitted only when all before it were
//   2  admission takes the whole need, so a running sequence never lacks a block
//   3  every runnable decoding sequence gets its row in every step
//   4  the rest of the budget, and at least one block of tokens, goes to prompts in order of
//      admission; a chunk ends at a multiple of block_tokens or at the prompt's end
//   5  no batch passes max_rows or max_logit_rows
Plan MakePlan(const View& view);

}  // namespace tandem
