#pragma once
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

// Who is admitted, who is preempted and who runs in the next step: a pure function of a snapshot.
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
  uint32_t blocks_needed = 0;  // waiting: to be admitted; held: that its next row lacks
  uint32_t sequences = 1;      // that it is, or will be once its prompt is computed

  int32_t priority = 0;      // higher first
  uint64_t arrival = 0;      // a number that grows from one request to the next
  uint32_t displaced = 0;    // how often it has made way for a higher priority
  bool preemptible = false;  // of a held one: it can be computed again
  bool paused = false;       // its tokens are not wanted now
  uint32_t blocks_back = 0;  // of a preemptible one: at least so many are free without it
};

struct View {
  ScheduleLimits limits;
  absl::Span<const ScheduleEntry> held;     // in order of admission
  absl::Span<const ScheduleEntry> waiting;  // in the order of the line
  uint32_t free_blocks = 0;
  uint32_t budget_tokens = 0;  // rows that keep the step short enough; decoding may pass it
};

struct Work {
  uint32_t entry = 0;  // index into `held` followed by the admitted ones
  uint32_t rows = 0;   // > 0
  friend bool operator==(const Work&, const Work&) = default;
};

struct Plan {
  std::vector<uint32_t> preempt;  // of `held`; then nobody is admitted
  bool displaced = false;         // they make way for the first of `waiting`
  uint32_t admit = 0;             // that many from the front of `waiting`
  std::vector<Work> work;         // one a sequence at most, in order of `entry`
};

// Rules, each with a test:
//   1  a waiting sequence is admitted only when all before it in the line were
//   2  a decoding sequence that lacks a block takes a free one; where none is, the last in standing
//      of those behind it are preempted. Standing: who is not paused, then priority, then arrival.
//      With nobody behind it, it gets no row until others end: so the first is never preempted
//   3  every other runnable decoding sequence gets its row in every step
//   4  the rest of the budget, and at least one block of tokens, goes to prompts in order of
//      admission; a chunk ends at a multiple of block_tokens or at the prompt's end
//   5  no batch passes max_rows or max_logit_rows
//   6  the first in line displaces those that MayDisplace names, the last in standing first, if it
//      then fits
Plan MakePlan(const View& view);

// Whether the first in line may take the place of a held one that can be preempted: of a paused
// one, or of one with a lower priority, which counts one more each time it was displaced.
bool MayDisplace(const ScheduleEntry& first, const ScheduleEntry& held);

}  // namespace tandem
