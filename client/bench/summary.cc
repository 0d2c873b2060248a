#include "client/bench/summary.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::bench {
namespace {

bool Keeps(const Record& record, const Goals& goals) {
  const auto within = [](const absl::optional<absl::Duration>& most, absl::Duration took) {
    return !most || took <= *most;
  };
  return within(goals.ttft, record.ttft()) && within(goals.e2e, record.e2e()) &&
         (record.output_tokens < 2 || within(goals.tpot, record.tpot()));
}

// Each request is in flight from the moment it was due.
void CountInFlight(absl::Span<const Record> records, Summary* summary) {
  std::vector<std::pair<absl::Duration, int>> changes;
  absl::Duration together;
  for (const Record& record : records) {
    if (record.state == Record::State::kNotSent) continue;
    changes.emplace_back(record.due, 1);
    changes.emplace_back(record.ended, -1);
    together += record.ended - record.due;
  }
  std::sort(changes.begin(), changes.end());  // at one moment, ends come first
  int now = 0;
  for (const auto& [at, change] : changes) {
    now += change;
    summary->in_flight_max =
        std::max(summary->in_flight_max, static_cast<size_t>(std::max(now, 0)));
  }
  if (summary->whole > absl::ZeroDuration()) {
    summary->in_flight_mean = absl::FDivDuration(together, summary->whole);
  }
}

void CountEnd(const Record& record, const Goals& goals, Summary* summary) {
  if (record.state == Record::State::kNotSent) return;
  ++summary->sent;
  summary->sending = std::max(summary->sending, record.due);
  summary->whole = std::max(summary->whole, record.ended);
  if (record.state == Record::State::kGivenUp) {
    ++summary->given_up;
  } else if (!record.succeeded()) {
    ++summary->failed;
    const std::string code = absl::StatusCodeToString(record.status.code());
    ++summary->errors[code];
    summary->said.try_emplace(code, record.status.message());
  } else {
    ++summary->succeeded;
    summary->input_tokens += record.input_tokens;
    summary->cached_tokens += record.cached_tokens;
    summary->output_tokens += record.output_tokens;
    if (record.output_tokens < record.output_wanted) ++summary->short_outputs;
    if (summary->good && Keeps(record, goals)) ++*summary->good;
  }
}

}  // namespace

absl::StatusOr<Goals> ParseGoals(absl::string_view text) {
  Goals goals;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> goal =
        absl::StrSplit(part, absl::MaxSplits(':', 1));
    absl::optional<absl::Duration>* to = goal.first == "ttft"   ? &goals.ttft
                                         : goal.first == "tpot" ? &goals.tpot
                                         : goal.first == "e2e"  ? &goals.e2e
                                                                : nullptr;
    double ms = 0;
    if (to == nullptr || *to || !absl::SimpleAtod(goal.second, &ms) || !(ms > 0 && ms < 1e9)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "\"", part, "\" is no goal; give each once, in milliseconds, as in ttft:200,tpot:50"));
    }
    *to = absl::Milliseconds(ms);
  }
  return goals;
}

Summary Summarize(absl::Span<const Record> records, const Goals& goals) {
  Summary summary;
  summary.planned = records.size();
  if (goals.any()) summary.good = 0;
  std::vector<double> ttft, tpot, itl, e2e, lag;
  for (const Record& record : records) {
    CountEnd(record, goals, &summary);
    if (record.state != Record::State::kNotSent) {
      lag.push_back(absl::ToDoubleMilliseconds(record.lag()));
    }
    if (!record.succeeded()) continue;
    e2e.push_back(absl::ToDoubleMilliseconds(record.e2e()));
    if (record.output_tokens > 0) ttft.push_back(absl::ToDoubleMilliseconds(record.ttft()));
    if (record.output_tokens > 1) tpot.push_back(absl::ToDoubleMilliseconds(record.tpot()));
    for (const float gap : record.gaps_s) itl.push_back(1e3 * gap);
  }
  CountInFlight(records, &summary);
  if (const double seconds = absl::ToDoubleSeconds(summary.whole); seconds > 0) {
    summary.requests_per_s = static_cast<double>(summary.succeeded) / seconds;
    summary.output_tokens_per_s = static_cast<double>(summary.output_tokens) / seconds;
    summary.tokens_per_s =
        static_cast<double>(summary.input_tokens + summary.output_tokens) / seconds;
  }
  summary.ttft_ms = Describe(std::move(ttft));
  summary.tpot_ms = Describe(std::move(tpot));
  summary.itl_ms = Describe(std::move(itl));
  summary.e2e_ms = Describe(std::move(e2e));
  summary.lag_ms = Describe(std::move(lag));
  return summary;
}

}  // namespace tandem::bench
