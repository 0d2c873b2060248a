#include "client/cli/bench_flags.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "client/bench/arrivals.h"
#include "client/bench/lengths.h"
#include "client/bench/trace.h"
#include "client/cli/endpoint_flags.h"

namespace tandem::cli {
namespace {

constexpr uint32_t kRequestsByDefault = 100;
constexpr uint32_t kConcurrencyMax = 100'000;
constexpr float kSecondsMax = 7 * 24 * 3600;

absl::Status Wrong(absl::string_view message) { return absl::InvalidArgumentError(message); }

absl::optional<absl::Duration> Limit(const BenchFlags& flags) {
  if (!flags.duration_s) return absl::nullopt;
  return absl::Seconds(*flags.duration_s);
}

absl::Status CheckRanges(const BenchFlags& flags) {
  const auto positive = [](const absl::optional<float>& value, float most) {
    return !value || (*value > 0 && *value <= most);
  };
  if (flags.rate && !(*flags.rate > 0)) return Wrong("--rate: want more than 0, or inf");
  if (!positive(flags.trace_speed, 1e6f)) return Wrong("--trace-speed: want more than 0");
  if (!positive(flags.duration_s, kSecondsMax)) return Wrong("--duration: want up to a week");
  if (!positive(flags.timeout_s, kSecondsMax)) return Wrong("--timeout: want up to a week");
  const struct {
    const char* name;
    absl::optional<uint32_t> value;
    uint32_t most;
  } kCounts[] = {{"concurrency", flags.concurrency, kConcurrencyMax},
                 {"requests", flags.requests, bench::kRequestsMax},
                 {"max-input", flags.max_input, bench::kTokensMax},
                 {"max-output", flags.max_output, bench::kTokensMax},
                 {"peak", flags.peak, bench::kRequestsMax}};
  for (const auto& count : kCounts) {
    if (count.value && (*count.value == 0 || *count.value > count.most)) {
      return Wrong(absl::StrCat("--", count.name, ": want 1 to ", count.most));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<BenchLoad> FromTrace(const BenchFlags& flags) {
  ASSIGN_OR_RETURN(bench::Trace trace, bench::ReadTrace(flags.trace));
  const size_t whole = trace.plan.size();
  bench::Replay replay = {.speed = flags.trace_speed.value_or(1),
                          .requests = flags.requests,
                          .limit = Limit(flags),
                          .input_max = flags.max_input,
                          .output_max = flags.max_output,
                          .keep_batches = flags.keep_batches,
                          .seed = flags.seed.value_or(0)};
  BenchLoad load;
  load.plan = bench::Replayed(std::move(trace.plan), replay);
  RETURN_IF_ERROR(Annotate(bench::CheckPlan(load.plan), flags.trace));
  load.words = absl::StrFormat("%d of %d requests of the %s trace %s, ", load.plan.size(), whole,
                               trace.format == bench::TraceFormat::kAzure ? "Azure" : "Mooncake",
                               flags.trace);
  if (flags.concurrency) {
    absl::StrAppend(&load.words, *flags.concurrency, " at once");
  } else {
    absl::StrAppend(&load.words, "at ", replay.speed, " x its speed");
  }
  return load;
}

absl::StatusOr<BenchLoad> Drawn(const BenchFlags& flags) {
  bench::DrawnLoad drawn = {.rate = flags.rate.value_or(INFINITY),
                            .even = flags.even,
                            .requests = flags.requests,
                            .limit = Limit(flags),
                            .shared_tokens = flags.shared_tokens.value_or(0),
                            .seed = flags.seed.value_or(0)};
  if (!drawn.requests && !drawn.limit) drawn.requests = kRequestsByDefault;
  absl::StatusOr<bench::Lengths> lengths = bench::ParseLengths(flags.input_tokens);
  if (!lengths.ok()) return Annotate(lengths.status(), "--input-tokens");
  drawn.input = *lengths;
  lengths = bench::ParseLengths(flags.output_tokens);
  if (!lengths.ok()) return Annotate(lengths.status(), "--output-tokens");
  drawn.output = *lengths;
  BenchLoad load;
  ASSIGN_OR_RETURN(load.plan, bench::DrawPlan(drawn));
  load.words = absl::StrCat(load.plan.size(), " requests, ", flags.input_tokens, " tokens in, ",
                            flags.output_tokens, " out, ");
  if (flags.concurrency) {
    absl::StrAppend(&load.words, *flags.concurrency, " at once");
  } else if (std::isinf(drawn.rate)) {
    load.loop = bench::Loop::kAllAtOnce;
    absl::StrAppend(&load.words, "all at once");
  } else {
    absl::StrAppend(&load.words, drawn.even ? "evenly " : "Poisson ", drawn.rate, "/s");
  }
  return load;
}

}  // namespace

Flags BenchFlags::Declared() {
  Flags flags;
  DeclareEndpoint(&flags, &connection);
  flags.Text("model", "NAME", "may be left out where one model is served", &model);
  flags.Real("rate", "R", "requests a second, as a Poisson process; inf: all at once", &rate);
  flags.Switch("even", "send at equal distances, not as a Poisson process", &even);
  flags.Text("trace", "FILE", "a Mooncake (JSON lines) or Azure (CSV) trace to replay", &trace);
  flags.Real("trace-speed", "X", "2 sends twice as fast; default 1", &trace_speed);
  flags.Switch("keep-batches", "leave requests of one moment of a trace there", &keep_batches);
  flags.Count("concurrency", "N", "a closed loop: always N at once", &concurrency);
  flags.Count("requests", "N", "send N; default 100, or the whole trace", &requests);
  flags.Real("duration", "S", "none is sent after S seconds", &duration_s);
  flags.Text("input-tokens", "L", "N, MIN-MAX or normal:MEAN:DEVIATION; default 512",
             &input_tokens);
  flags.Text("output-tokens", "L", "the same; default 128. Stop tokens do not end an answer",
             &output_tokens);
  flags.Count("shared-tokens", "N", "the first N tokens are the same in all prompts",
              &shared_tokens);
  flags.Count("max-input", "N", "cut a trace's prompts to N tokens", &max_input);
  flags.Count("max-output", "N", "cut a trace's outputs to N tokens", &max_output);
  flags.Switch("skip-long", "leave out what is too long for the model", &skip_long);
  flags.Seed("seed", "S", "the same seed sends the same requests; default 0", &seed);
  flags.Count("warm-up", "N", "send N such requests before, which do not count", &warm_up);
  flags.Count("peak", "N", "send N such requests at once afterwards, to compare with", &peak);
  flags.Real("temperature", "T", "default 0", &temperature);
  flags.Real("timeout", "S", "of one request; default 600", &timeout_s);
  flags.Text("goodput", "GOALS", "count what keeps to these, in ms: ttft:200,tpot:50,e2e:9000",
             &goals);
  flags.Texts("metrics", "H:P", "a worker's metrics, to say how busy it was; once for each",
              &metrics);
  flags.Text("ready-file", "F", "of tandem serve: gives --endpoint and each --metrics",
             &ready_file);
  flags.Text("json", "FILE", "write the result as JSON; - for stdout", &json);
  flags.Switch("details", "every request and its times are in the JSON", &details);
  flags.Switch("help", "show this", &help);
  return flags;
}

absl::Status CheckFlags(const BenchFlags& flags) {
  RETURN_IF_ERROR(CheckRanges(flags));
  const int sources = flags.rate.has_value() + flags.concurrency.has_value() + !flags.trace.empty();
  if (sources == 0) return Wrong("give --rate R, --trace FILE or --concurrency N");
  if (flags.rate && !flags.trace.empty()) return Wrong("--rate and --trace exclude one another");
  if (flags.rate && flags.concurrency) return Wrong("--rate and --concurrency exclude one another");
  if (flags.concurrency && flags.duration_s) {
    return Wrong("--duration is for --rate and --trace; a closed loop takes --requests");
  }
  const bool only_trace =
      flags.trace_speed || flags.keep_batches || flags.max_input || flags.max_output;
  if (flags.trace.empty() && only_trace) {
    return Wrong("--trace-speed, --keep-batches, --max-input and --max-output are for --trace");
  }
  if (flags.rate && std::isinf(*flags.rate) && flags.duration_s) {
    return Wrong("--rate inf sends all at once: give --requests, not --duration");
  }
  if (flags.details && flags.json.empty()) return Wrong("--details is for --json");
  return absl::OkStatus();
}

absl::StatusOr<BenchLoad> MakeLoad(const BenchFlags& flags) {
  ASSIGN_OR_RETURN(BenchLoad load, flags.trace.empty() ? Drawn(flags) : FromTrace(flags));
  if (flags.concurrency) load.loop = bench::Loop::kClosed;
  if (!flags.goals.empty()) {
    ASSIGN_OR_RETURN(load.goals, bench::ParseGoals(flags.goals));
  }
  return load;
}

absl::Status ReadReadyFile(BenchFlags* flags) {
  if (flags->ready_file.empty()) return absl::OkStatus();
  std::ifstream file(flags->ready_file);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  const auto address = [](const nlohmann::json& process, const char* name) -> std::string {
    if (!process.is_object() || !process.contains(name) || !process[name].is_string()) return "";
    return process[name].get<std::string>();
  };
  flags->connection.endpoint = address(json, "grpc");
  const bool workers = json.is_object() && json.contains("workers") && json["workers"].is_array();
  if (!workers || flags->connection.endpoint.empty()) {
    return Wrong(absl::StrCat("--ready-file ", flags->ready_file,
                              ": is not what tandem serve --ready-file writes"));
  }
  for (const auto& worker : json["workers"]) {
    if (const std::string port = address(worker, "metrics"); !port.empty()) {
      flags->metrics.push_back(port);
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem::cli
