#include "client/bench/report.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace tandem::bench {
namespace {

using Json = nlohmann::ordered_json;

std::string Row(const char* name, const Distribution& d) {
  if (d.count == 0) return "";
  return absl::StrFormat("%-12s %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f\n", name, d.mean, d.p50, d.p90,
                         d.p95, d.p99, d.max);
}

std::string ErrorLines(const Summary& summary) {
  std::string lines;
  for (const auto& [code, count] : summary.errors) {
    absl::StrAppendFormat(&lines, "  %5d x %s: %s\n", count, code, summary.said.at(code));
  }
  return lines;
}

std::string RequestLines(const Result& result) {
  const Summary& s = result.summary;
  std::string text = absl::StrFormat("requests     %d of %d sent, %d succeeded, %d failed", s.sent,
                                     s.planned, s.succeeded, s.failed);
  if (s.given_up > 0) absl::StrAppend(&text, ", ", s.given_up, " cancelled by Ctrl-C");
  if (s.short_outputs > 0) absl::StrAppend(&text, ", ", s.short_outputs, " with too few tokens");
  absl::StrAppend(&text, "\n", ErrorLines(s));
  absl::StrAppendFormat(&text, "time         %.1f s, the last request due after %.1f s\n",
                        absl::ToDoubleSeconds(s.whole), absl::ToDoubleSeconds(s.sending));
  absl::StrAppendFormat(
      &text, "throughput   %.2f requests/s, %.1f output tokens/s, %.1f tokens/s in and out\n",
      s.requests_per_s, s.output_tokens_per_s, s.tokens_per_s);
  if (s.cached_tokens > 0) {
    absl::StrAppendFormat(
        &text, "prefix cache %d of %d input tokens were there already (%.1f %%)\n", s.cached_tokens,
        s.input_tokens, 100.0 * s.cached_tokens / s.input_tokens);
  }
  absl::StrAppendFormat(&text, "in flight    %.1f on average, %d at most\n", s.in_flight_mean,
                        s.in_flight_max);
  if (s.good && s.succeeded > 0) {
    absl::StrAppendFormat(&text,
                          "goodput      %.2f requests/s within the goals, %.1f %% of all sent\n",
                          *s.good / absl::ToDoubleSeconds(s.whole), 100.0 * *s.good / s.sent);
  }
  return text;
}

std::string MachineLines(const Result& result) {
  std::string text;
  for (const WorkerReport& w : result.workers) {
    absl::StrAppendFormat(
        &text,
        "worker       %s: in steps for %.0f %% of the time, %.1f ms each; running %.1f (max %.0f), "
        "waiting %.1f (max %.0f), KV %.0f %% full at most, %.0f tokens/s computed\n",
        w.address, 100 * w.busy, w.step_ms, w.running_mean, w.running_max, w.waiting_mean,
        w.waiting_max, 100 * w.kv_max, w.tokens_per_s);
  }
  if (result.cpu && result.cpu->all > 0) {
    absl::StrAppendFormat(&text,
                          "this machine processors busy for %.0f %% of the time, %.1f %% with this "
                          "client\n",
                          100 * result.cpu->busy / result.cpu->all,
                          100 * result.cpu->own / result.cpu->all);
  }
  return text;
}

double PeakShare(const Result& result) {
  const double peak = result.peak ? result.peak->output_tokens_per_s : 0;
  return peak > 0 ? result.summary.output_tokens_per_s / peak : 0;
}

std::string PeakLine(const Result& result) {
  if (!result.peak) return "";
  return absl::StrFormat(
      "peak         %.1f output tokens/s when %d such requests came at once (%d failed); this run "
      "had %.0f %% of that\n",
      result.peak->output_tokens_per_s, result.peak->sent, result.peak->failed,
      100 * PeakShare(result));
}

Json JsonOf(const Distribution& d) {
  return {{"count", d.count}, {"mean", d.mean}, {"std", d.deviation}, {"min", d.min},
          {"p50", d.p50},     {"p75", d.p75},   {"p90", d.p90},       {"p95", d.p95},
          {"p99", d.p99},     {"max", d.max}};
}

Json JsonOf(const Summary& s) {
  Json json = {{"requests",
                {{"planned", s.planned},
                 {"sent", s.sent},
                 {"succeeded", s.succeeded},
                 {"failed", s.failed},
                 {"cancelled", s.given_up},
                 {"short", s.short_outputs}}},
               {"errors", s.errors},
               {"duration_s", absl::ToDoubleSeconds(s.whole)},
               {"sending_s", absl::ToDoubleSeconds(s.sending)},
               {"input_tokens", s.input_tokens},
               {"cached_tokens", s.cached_tokens},
               {"output_tokens", s.output_tokens},
               {"requests_per_s", s.requests_per_s},
               {"output_tokens_per_s", s.output_tokens_per_s},
               {"tokens_per_s", s.tokens_per_s},
               {"in_flight", {{"mean", s.in_flight_mean}, {"max", s.in_flight_max}}},
               {"ttft_ms", JsonOf(s.ttft_ms)},
               {"tpot_ms", JsonOf(s.tpot_ms)},
               {"itl_ms", JsonOf(s.itl_ms)},
               {"e2e_ms", JsonOf(s.e2e_ms)},
               {"send_lag_ms", JsonOf(s.lag_ms)}};
  if (s.errors.empty()) json["errors"] = Json::object();
  if (s.good) json["good_requests"] = *s.good;
  return json;
}

Json JsonOf(const WorkerReport& w) {
  return {{"metrics", w.address},
          {"pages", w.pages},
          {"busy", w.busy},
          {"step_ms", w.step_ms},
          {"tokens_per_s", w.tokens_per_s},
          {"running", {{"mean", w.running_mean}, {"max", w.running_max}}},
          {"waiting", {{"mean", w.waiting_mean}, {"max", w.waiting_max}}},
          {"kv_max", w.kv_max}};
}

Json SaturationJson(const Result& result) {
  const Backlog& b = result.backlog;
  Json json = {{"level", NameOf(result.verdict.level)},
               {"sentence", result.verdict.sentence},
               {"client_late", result.verdict.client_late},
               {"offered_per_s", b.offered_per_s},
               {"ended_per_s", b.ended_per_s},
               {"backlog",
                {{"mean", b.mean},
                 {"at_end", b.at_end},
                 {"slope_per_s", b.slope_per_s},
                 {"over_s", absl::ToDoubleSeconds(b.over)}}}};
  if (result.peak) {
    json["peak"] = {{"output_tokens_per_s", result.peak->output_tokens_per_s},
                    {"requests", result.peak->sent},
                    {"failed", result.peak->failed},
                    {"share", PeakShare(result)}};
  }
  return json;
}

// What the client saw of one request.
Json JsonOf(const Record& r) {
  static constexpr const char* kStates[] = {"not_sent", "running", "ended", "cancelled"};
  Json json = {{"state", kStates[static_cast<int>(r.state)]},
               {"input_tokens", r.input_tokens},
               {"cached_tokens", r.cached_tokens},
               {"output_wanted", r.output_wanted},
               {"output_tokens", r.output_tokens}};
  if (r.state == Record::State::kNotSent) return json;
  json["code"] = absl::StatusCodeToString(r.status.code());
  json["due_s"] = absl::ToDoubleSeconds(r.due);
  json["sent_s"] = absl::ToDoubleSeconds(r.sent);
  json["ended_s"] = absl::ToDoubleSeconds(r.ended);
  if (r.output_tokens > 0) json["first_token_s"] = absl::ToDoubleSeconds(r.first_token);
  json["gaps_s"] = r.gaps_s;
  return json;
}

const char* NameOfLoop(Loop loop) {
  return loop == Loop::kOpen ? "open" : loop == Loop::kClosed ? "closed" : "all_at_once";
}

}  // namespace

std::string TableOf(const Result& result) {
  const Summary& s = result.summary;
  std::string text = absl::StrCat("model ", result.model, " at ", result.endpoint, " | ",
                                  result.load, " | seed ", result.seed, "\n");
  if (s.sent > 0) {
    absl::StrAppend(&text,
                    "ms                mean       p50       p90       p95       p99       max\n",
                    Row("TTFT", s.ttft_ms), Row("TPOT", s.tpot_ms), Row("ITL", s.itl_ms),
                    Row("E2E", s.e2e_ms), Row("send lag", s.lag_ms));
  }
  return absl::StrCat(text, RequestLines(result), MachineLines(result), PeakLine(result),
                      "saturation   ", result.verdict.sentence, "\n");
}

std::string JsonOf(const Result& result, absl::Span<const Record> records, bool details) {
  Json json = {{"date", result.date},   {"endpoint", result.endpoint},
               {"model", result.model}, {"model_revision", result.revision},
               {"load", result.load},   {"loop", NameOfLoop(result.loop)},
               {"seed", result.seed},   {"interrupted", result.interrupted}};
  json.update(JsonOf(result.summary));
  json["saturation"] = SaturationJson(result);
  json["workers"] = Json::array();
  for (const WorkerReport& worker : result.workers) json["workers"].push_back(JsonOf(worker));
  if (result.cpu) {
    json["machine"] = {{"cpu_busy_s", result.cpu->busy},
                       {"cpu_all_s", result.cpu->all},
                       {"cpu_client_s", result.cpu->own}};
  }
  if (details) {
    json["details"] = Json::array();
    for (const Record& record : records) json["details"].push_back(JsonOf(record));
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tandem::bench
