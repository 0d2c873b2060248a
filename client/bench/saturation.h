#pragma once
#include <string>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/bench/record.h"
#include "client/bench/summary.h"

namespace tandem::bench {

// How requests were sent.
enum class Loop { kOpen, kAllAtOnce, kClosed };

// What workers' metrics said while requests were sent; over all of them.
struct WorkerLoad {
  double busy = 0;         // share of the time in engine steps, of the busiest, from 0 to 1
  double waiting_max = 0;  // requests in a queue
  double waiting_mean = 0;
  double kv_max = 0;  // share of the KV blocks in use, of the fullest
};

// The number of requests between due and ended, over the time of sending less its beginning, when
// the first ones could not have ended yet.
struct Backlog {
  absl::Duration over;
  double mean = 0;
  double at_end = 0;         // on the line
  double slope_per_s = 0;    // of the line with the least squares
  double offered_per_s = 0;  // requests due
  double ended_per_s = 0;    // requests that ended, well or not
  // Median times to the first token of the first and of the last third of the requests.
  double ttft_first_ms = 0, ttft_last_ms = 0;
};

Backlog MeasureBacklog(absl::Span<const Record> records, const Summary& summary);

enum class Level { kUnknown, kKeptUp, kNear, kSaturated };

struct Verdict {
  Level level = Level::kUnknown;
  bool client_late = false;  // this client sent so late that it shows in the latencies
  std::string sentence;      // or a few, for people
};

// How far the cluster was saturated, as far as that can be told.
Verdict Judge(Loop loop, const Summary& summary, const Backlog& backlog,
              const absl::optional<WorkerLoad>& workers);

std::string NameOf(Level level);

}  // namespace tandem::bench
