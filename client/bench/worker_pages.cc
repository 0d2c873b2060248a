#include "client/bench/worker_pages.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace tandem::bench {

absl::StatusOr<WorkerPage> ParseWorkerPage(absl::string_view text, absl::Time at) {
  WorkerPage page = {.at = at};
  const struct {
    absl::string_view name;
    double* to;
  } kFields[] = {{"tandem_worker_requests_waiting", &page.waiting},
                 {"tandem_worker_requests_running", &page.running},
                 {"tandem_worker_kv_cache_usage_ratio", &page.kv_used},
                 {"tandem_worker_step_duration_seconds_sum", &page.step_seconds},
                 {"tandem_worker_step_duration_seconds_count", &page.steps},
                 {"tandem_worker_tokens_total", &page.tokens}};
  bool worker = false;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const absl::string_view name = line.substr(0, line.find_first_of("{ "));
    for (const auto& field : kFields) {
      double value = 0;
      if (name != field.name || !absl::SimpleAtod(line.substr(line.rfind(' ') + 1), &value)) {
        continue;
      }
      *field.to += value;
      worker = true;
    }
  }
  if (worker) return page;
  return absl::NotFoundError("is no page of a worker's metrics");
}

WorkerReport Report(const std::string& address, absl::Span<const WorkerPage> pages) {
  WorkerReport report = {.address = address, .pages = pages.size()};
  if (pages.empty()) return report;
  const double count = static_cast<double>(pages.size());
  for (const WorkerPage& page : pages) {
    report.running_mean += page.running / count;
    report.waiting_mean += page.waiting / count;
    report.running_max = std::max(report.running_max, page.running);
    report.waiting_max = std::max(report.waiting_max, page.waiting);
    report.kv_max = std::max(report.kv_max, page.kv_used);
  }
  const WorkerPage& first = pages.front();
  const WorkerPage& last = pages.back();
  const double seconds = absl::ToDoubleSeconds(last.at - first.at);
  const double in_steps = last.step_seconds - first.step_seconds;
  if (seconds > 0) {
    report.busy = std::clamp(in_steps / seconds, 0.0, 1.0);
    report.tokens_per_s = (last.tokens - first.tokens) / seconds;
  }
  if (last.steps > first.steps) report.step_ms = 1e3 * in_steps / (last.steps - first.steps);
  return report;
}

absl::optional<WorkerLoad> Together(absl::Span<const WorkerReport> reports) {
  if (reports.empty()) return absl::nullopt;
  WorkerLoad load;
  for (const WorkerReport& report : reports) {
    load.busy = std::max(load.busy, report.busy);
    load.waiting_max = std::max(load.waiting_max, report.waiting_max);
    load.waiting_mean = std::max(load.waiting_mean, report.waiting_mean);
    load.kv_max = std::max(load.kv_max, report.kv_max);
  }
  return load;
}

}  // namespace tandem::bench
