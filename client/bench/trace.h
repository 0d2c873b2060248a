#pragma once
#include <cstdint>
#include <istream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "client/bench/plan.h"

namespace tandem::bench {

enum class TraceFormat { kMooncake, kAzure };

struct Trace {
  TraceFormat format = TraceFormat::kMooncake;
  Plan plan;  // as the file has it, from 0 on
};

// Reads a trace: Mooncake's (a JSON object a line with timestamp in ms, input_length,
// output_length and hash_ids, the names of the prompt's blocks of 512 tokens) or Azure's (CSV with
// the columns TIMESTAMP, ContextTokens, GeneratedTokens). Lines may be out of order.
//   errors  InvalidArgument "FILE:LINE: what is wrong"; NotFound where there is no such file
absl::StatusOr<Trace> ReadTrace(const std::string& path);
// The same from a stream; `name` stands for the file in errors.
absl::StatusOr<Trace> ParseTrace(std::istream& in, const std::string& name);

// How a trace is replayed.
struct Replay {
  double speed = 1;                      // > 0; 2 sends twice as fast
  absl::optional<uint32_t> requests;     // the first ones only
  absl::optional<absl::Duration> limit;  // none is due later than this, after `speed`
  absl::optional<uint32_t> input_max;    // longer prompts lose their end
  absl::optional<uint32_t> output_max;
  // Some traces have their requests in batches, all of one moment, because that is how they were
  // written down. Where a moment has two requests or more on average, they are spread at random up
  // to the next moment, unless this is set.
  bool keep_batches = false;
  uint64_t seed = 0;  // of the spreading
};

Plan Replayed(Plan plan, const Replay& replay);

}  // namespace tandem::bench
