#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/bench/saturation.h"

namespace tandem::bench {

// What is read from a worker's page of metrics, at one moment.
struct WorkerPage {
  absl::Time at;
  double waiting = 0, running = 0;  // requests
  double kv_used = 0;               // share of the blocks, from 0 to 1
  double step_seconds = 0;          // in engine steps, since the worker started
  double steps = 0;                 // the same
  double tokens = 0;                // computed, the same
};

// NotFound where it is a page of something else.
absl::StatusOr<WorkerPage> ParseWorkerPage(absl::string_view text, absl::Time at);

// One worker over the time of its pages.
struct WorkerReport {
  std::string address;  // of its metrics
  size_t pages = 0;
  double busy = 0;  // share of the time in engine steps, from 0 to 1
  double step_ms = 0;
  double tokens_per_s = 0;  // computed, of prompts and outputs
  double running_mean = 0, running_max = 0;
  double waiting_mean = 0, waiting_max = 0;
  double kv_max = 0;  // share of the blocks, from 0 to 1
};

WorkerReport Report(const std::string& address, absl::Span<const WorkerPage> pages);

// None where there are no reports.
absl::optional<WorkerLoad> Together(absl::Span<const WorkerReport> reports);

}  // namespace tandem::bench
