#include "client/bench/saturation.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::bench {
namespace {

constexpr int kSamples = 256;          // of the backlog
constexpr size_t kRequestsLeast = 20;  // for a verdict
// A backlog that grows by this share of what is offered will not come to rest by itself.
constexpr double kGrowingShare = 0.05;
// Above this share of requests that ended for want of room or time, the rest is no picture of load.
constexpr double kRefusedShare = 0.01;
// Times to the first token that grow so much while a backlog grows are those of a queue.
constexpr double kTtftGrowth = 2;
// Above this share of the KV blocks in use, requests wait for blocks.
constexpr double kFullShare = 0.95;
constexpr double kLateMs = 5;       // a client's lag that is worth a word ...
constexpr double kLateShare = 0.1;  // ... where it is this much of the time to the first token

bool WasSent(const Record& record) { return record.state != Record::State::kNotSent; }

bool Grows(const Backlog& backlog) {
  const double growth = backlog.slope_per_s * absl::ToDoubleSeconds(backlog.over);
  // A backlog that is at rest wanders by about the root of its mean.
  return backlog.slope_per_s >= kGrowingShare * backlog.offered_per_s &&
         growth >= std::max(2.0, 2 * std::sqrt(backlog.mean));
}

double RefusedShare(const Summary& summary) {
  double refused = 0;
  for (const char* code : {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}) {
    if (const auto found = summary.errors.find(code); found != summary.errors.end()) {
      refused += static_cast<double>(found->second);
    }
  }
  return refused / static_cast<double>(summary.sent);
}

bool Waits(const WorkerLoad& load) { return load.waiting_mean >= 1 || load.kv_max >= kFullShare; }

std::string WorkersSaid(const absl::optional<WorkerLoad>& workers) {
  if (!workers) return " How much more it can take is not known without the workers' metrics.";
  return absl::StrFormat(
      " Workers: busy for %.0f %% of the time, %.0f requests waiting at most (%.1f on average), "
      "%.0f %% of the KV blocks in use at most.",
      100 * workers->busy, workers->waiting_max, workers->waiting_mean, 100 * workers->kv_max);
}

std::string LateSaid(const Summary& summary) {
  return absl::StrFormat(
      " This client sent late (%.1f ms at the 99th percentile), which is in the latencies: its "
      "machine was busy, or one client is too little.",
      summary.lag_ms.p99);
}

Verdict JudgeOpen(const Summary& summary, const Backlog& backlog,
                  const absl::optional<WorkerLoad>& workers) {
  if (const double refused = RefusedShare(summary); refused > kRefusedShare) {
    return {
        .level = Level::kSaturated,
        .sentence = absl::StrFormat(
            "Saturated: %.1f %% of the requests were refused or ran out of time.", 100 * refused)};
  }
  const absl::Duration median = absl::Milliseconds(summary.e2e_ms.p50);
  const bool queued = Grows(backlog) && backlog.ttft_last_ms > kTtftGrowth * backlog.ttft_first_ms;
  if (summary.sent < kRequestsLeast || (summary.sending < 3 * median && !queued)) {
    return {.sentence = absl::StrFormat(
                "Too short to tell whether the cluster kept up: %d requests in %.1f s, and the "
                "median one took %.1f s. Send at least %d, for at least %.0f s.",
                summary.sent, absl::ToDoubleSeconds(summary.sending), absl::ToDoubleSeconds(median),
                kRequestsLeast, std::ceil(absl::ToDoubleSeconds(3 * median)))};
  }
  if (Grows(backlog)) {
    return {.level = Level::kSaturated,
            .sentence = absl::StrFormat(
                "Saturated: %.2f requests/s came and %.2f/s ended (%.0f %%); the backlog grew by "
                "%.2f a second, to %.0f. The latencies depend on how long this run was.",
                backlog.offered_per_s, backlog.ended_per_s,
                100 * backlog.ended_per_s / backlog.offered_per_s, backlog.slope_per_s,
                backlog.at_end)};
  }
  if (workers && Waits(*workers)) {
    return {
        .level = Level::kNear,
        .sentence = absl::StrFormat(
            "Near saturation: %.2f requests/s came and the backlog stayed at %.1f, but requests "
            "waited for their turn.",
            backlog.offered_per_s, backlog.mean)};
  }
  return {.level = Level::kKeptUp,
          .sentence = absl::StrFormat(
              "The cluster kept up: %.2f requests/s came and the backlog stayed at %.1f.",
              backlog.offered_per_s, backlog.mean)};
}

Verdict JudgeLoop(Loop loop, const Summary& summary, const Backlog& backlog,
                  const absl::optional<WorkerLoad>& workers) {
  if (summary.succeeded == 0) return {.sentence = "No request succeeded."};
  if (loop == Loop::kOpen) return JudgeOpen(summary, backlog, workers);
  if (loop == Loop::kAllAtOnce) {
    return {.level = Level::kSaturated,
            .sentence = absl::StrFormat(
                "All %d requests were sent at once: %.1f output tokens/s is the throughput with "
                "that many, and the latencies are of a queue that was full from the start.",
                summary.sent, summary.output_tokens_per_s)};
  }
  const bool waits = workers && Waits(*workers);
  return {.level = waits ? Level::kSaturated : Level::kUnknown,
          .sentence = absl::StrFormat(
              "A closed loop never overloads: with %d at once the cluster gave %.1f output "
              "tokens/s%s.",
              summary.in_flight_max, summary.output_tokens_per_s,
              waits ? ", and some of them only waited" : "")};
}

// Medians over the first and the last third of those that succeeded.
std::pair<double, double> TtftOfThirds(absl::Span<const Record> records) {
  std::vector<double> ttft;
  for (const Record& record : records) {
    if (record.succeeded()) ttft.push_back(absl::ToDoubleMilliseconds(record.ttft()));
  }
  const auto third = static_cast<std::ptrdiff_t>(ttft.size() / 3);
  return {Describe({ttft.begin(), ttft.begin() + third}).p50,
          Describe({ttft.end() - third, ttft.end()}).p50};
}

}  // namespace

Backlog MeasureBacklog(absl::Span<const Record> records, const Summary& summary) {
  Backlog backlog;
  const absl::Duration from = std::min(absl::Milliseconds(summary.e2e_ms.p50), summary.sending / 3);
  backlog.over = summary.sending - from;
  if (backlog.over <= absl::ZeroDuration()) return {};
  std::vector<absl::Duration> due, ended;
  for (const Record& record : records) {
    if (!WasSent(record)) continue;
    due.push_back(record.due);
    ended.push_back(record.ended);
  }
  std::sort(due.begin(), due.end());
  std::sort(ended.begin(), ended.end());
  const auto until = [](const std::vector<absl::Duration>& times, absl::Duration at) {
    return static_cast<double>(std::upper_bound(times.begin(), times.end(), at) - times.begin());
  };
  const double seconds = absl::ToDoubleSeconds(backlog.over);
  backlog.offered_per_s = (until(due, summary.sending) - until(due, from)) / seconds;
  backlog.ended_per_s = (until(ended, summary.sending) - until(ended, from)) / seconds;
  double covariance = 0;
  double variance = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double x = (i + 0.5) / kSamples - 0.5;  // of the window, around its middle
    const absl::Duration at = from + (x + 0.5) * backlog.over;
    const double open = until(due, at) - until(ended, at);
    backlog.mean += open / kSamples;
    covariance += x * open;
    variance += x * x;
  }
  std::tie(backlog.ttft_first_ms, backlog.ttft_last_ms) = TtftOfThirds(records);
  const double growth = covariance / variance;
  backlog.slope_per_s = growth / seconds;
  backlog.at_end = std::max(0.0, backlog.mean + growth / 2);
  return backlog;
}

Verdict Judge(Loop loop, const Summary& summary, const Backlog& backlog,
              const absl::optional<WorkerLoad>& workers) {
  Verdict verdict = JudgeLoop(loop, summary, backlog, workers);
  if (summary.succeeded == 0) return verdict;
  verdict.client_late =
      summary.lag_ms.p99 > kLateMs && summary.lag_ms.p99 > kLateShare * summary.ttft_ms.p50;
  verdict.sentence += WorkersSaid(workers);
  if (verdict.client_late) verdict.sentence += LateSaid(summary);
  return verdict;
}

std::string NameOf(Level level) {
  switch (level) {
    case Level::kKeptUp:
      return "kept_up";
    case Level::kNear:
      return "near";
    case Level::kSaturated:
      return "saturated";
    case Level::kUnknown:
      return "unknown";
  }
  return "unknown";
}

}  // namespace tandem::bench
