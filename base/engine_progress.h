#pragma once
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tandem {

// How far a worker's engine is: what its heartbeats tell, and what it judges itself by.
struct EngineProgress {
  uint64_t step_number = 0;
  absl::Duration age;  // since it finished a step or was idle
};

// OK while the engine moves: it has not had work for `limit` without finishing a step; the first
// step of its life may take ten times as long. Else Unavailable, with the step and how long it
// takes. A limit of zero is none.
absl::Status CheckProgress(const EngineProgress& progress, absl::Duration limit);

}  // namespace tandem
