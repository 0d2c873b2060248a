#pragma once
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/bench/machine.h"
#include "client/bench/record.h"
#include "client/bench/saturation.h"
#include "client/bench/summary.h"
#include "client/bench/worker_pages.h"

namespace tandem::bench {

// All that is said of a run.
struct Result {
  std::string date;  // UTC, RFC 3339
  std::string endpoint, model, revision;
  std::string load;  // what was sent, in words
  Loop loop = Loop::kOpen;
  uint64_t seed = 0;
  bool interrupted = false;
  Summary summary;
  Backlog backlog;
  Verdict verdict;
  std::vector<WorkerReport> workers;  // where their metrics were given
  absl::optional<CpuTime> cpu;        // of this machine, over the run
  absl::optional<Summary> peak;       // of requests that were sent at once afterwards
};

// For people, with a newline at its end.
std::string TableOf(const Result& result);

// One JSON object; with `details`, an entry for each of the records, too.
std::string JsonOf(const Result& result, absl::Span<const Record> records, bool details);

}  // namespace tandem::bench
