#include <algorithm>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/process.h"
#include "base/status.h"
#include "client/bench/load_probe.h"
#include "client/bench/prompt.h"
#include "client/bench/report.h"
#include "client/bench/sender.h"
#include "client/cli/bench_flags.h"
#include "client/cli/commands.h"
#include "client/cli/interrupt.h"
#include "client/cli/terminal.h"

namespace tandem::cli {
namespace {
namespace v1 = inference::v1;
using bench::Loop;
using bench::Record;

constexpr char kHelp[] =
    "tandem bench (--rate R | --trace FILE | --concurrency N) [FLAGS]: sends load, measures it\n"
    "  tandem bench --rate 4 --requests 200 --input-tokens 100-1000 --json result.json\n"
    "  tandem bench --trace mooncake.jsonl --trace-speed 2 --duration 60 --skip-long\n"
    "Open loop: each request is sent when it is due, whoever has ended, and its latencies count\n"
    "from that moment. TTFT: to the first token; TPOT: a token's mean time after it; ITL: between\n"
    "two tokens; E2E: to the end. docs/BENCH.md says more.\n";
constexpr float kTimeoutS = 600;
constexpr uint32_t kWarmUpAtOnce = 4;

// One command's work: a connection, what it sends, and whether it was interrupted.
class Bench {
 public:
  Bench(BenchFlags flags, BenchLoad load, Client* client)
      : flags_(std::move(flags)), load_(std::move(load)), client_(client) {}

  // The exit status.
  int Go();
  void Interrupt() {
    MutexLock lock(&mu_);
    interrupted_ = true;
    if (running_ != nullptr) running_->Stop();
  }

 private:
  absl::Status ChooseModel();
  absl::Status Fit();
  // Sends a plan with prompts of their own, for each `purpose` others.
  std::vector<Record> Send(const bench::Plan& plan, absl::optional<uint32_t> concurrency,
                           uint64_t purpose);
  absl::StatusOr<std::vector<Record>> Measure();
  absl::Status Write(const std::vector<Record>& records) const;
  // The first `requests` of the plan, again and again where there are fewer, due at once.
  bench::Plan AtOnce(uint32_t requests) const;
  bool interrupted() {
    MutexLock lock(&mu_);
    return interrupted_;
  }

  const BenchFlags flags_;
  BenchLoad load_;
  Client* const client_;
  v1::Model model_;
  bench::Result result_;

  Mutex mu_;
  bool interrupted_ ABSL_GUARDED_BY(mu_) = false;
  bench::Sender* running_ ABSL_GUARDED_BY(mu_) = nullptr;
};

absl::Status Bench::ChooseModel() {
  ASSIGN_OR_RETURN(const v1::ListModelsResponse served, client_->ListModels());
  std::vector<std::string> names;
  for (const v1::Model& model : served.models()) {
    const auto& aliases = model.aliases();
    const bool meant = flags_.model == model.name() ||
                       std::find(aliases.begin(), aliases.end(), flags_.model) != aliases.end() ||
                       (flags_.model.empty() && served.models_size() == 1);
    if (meant) model_ = model;
    names.push_back(model.name());
  }
  if (!model_.name().empty() && model_.vocabulary() > 0) return absl::OkStatus();
  if (names.empty()) return absl::UnavailableError("the router serves no model now");
  return absl::InvalidArgumentError(
      absl::StrCat("--model: give one of ", absl::StrJoin(names, ", ")));
}

absl::Status Bench::Fit() {
  if (flags_.skip_long) {
    const size_t planned = load_.plan.size();
    std::erase_if(load_.plan, [this](const bench::PlannedRequest& request) {
      return uint64_t{request.input_tokens} + request.output_tokens > model_.max_context();
    });
    if (const size_t left_out = planned - load_.plan.size(); left_out > 0) {
      absl::StrAppend(&load_.words, ", ", left_out, " left out as too long");
    }
    if (load_.plan.empty()) return absl::InvalidArgumentError("every request is too long");
  }
  return bench::CheckFits(load_.plan, model_.max_context());
}

bench::Plan Bench::AtOnce(uint32_t requests) const {
  bench::Plan plan;
  for (uint32_t i = 0; i < requests; ++i) {
    plan.push_back(load_.plan[i % load_.plan.size()]);
    plan.back().at = absl::ZeroDuration();
  }
  return plan;
}

std::vector<Record> Bench::Send(const bench::Plan& plan, absl::optional<uint32_t> concurrency,
                                uint64_t purpose) {
  bench::Sender::Options options = {.model = model_.name(),
                                    .vocabulary = model_.vocabulary(),
                                    .seed = flags_.seed.value_or(0) + (purpose << 32),
                                    .temperature = flags_.temperature.value_or(0),
                                    .concurrency = concurrency,
                                    .timeout = absl::Seconds(flags_.timeout_s.value_or(kTimeoutS))};
  if (ErrorIsTerminal()) {
    options.on_progress = [](const bench::Progress& p) {
      Note(absl::StrFormat("%5.0f s: %d sent, %d running, %d failed", absl::ToDoubleSeconds(p.at),
                           p.sent, p.sent - p.ended, p.failed));
    };
  }
  bench::Sender sender(&plan, client_, std::move(options));
  {
    MutexLock lock(&mu_);
    if (interrupted_) return std::vector<Record>(plan.size());
    running_ = &sender;
  }
  std::vector<Record> records = sender.Go();
  MutexLock lock(&mu_);
  running_ = nullptr;
  return records;
}

absl::StatusOr<std::vector<Record>> Bench::Measure() {
  std::unique_ptr<bench::LoadProbe> probe;
  if (!flags_.metrics.empty()) {
    ASSIGN_OR_RETURN(probe, bench::LoadProbe::Start(flags_.metrics));
  }
  const absl::optional<bench::CpuTime> before = bench::ReadCpuTime();
  const absl::Time start = RealClock()->Now();
  std::vector<Record> records = Send(load_.plan, flags_.concurrency, 0);
  const absl::optional<bench::CpuTime> after = bench::ReadCpuTime();
  if (before && after) {
    result_.cpu = bench::CpuTime{.busy = after->busy - before->busy,
                                 .all = after->all - before->all,
                                 .own = after->own - before->own};
  }
  result_.summary = bench::Summarize(records, load_.goals);
  result_.backlog = bench::MeasureBacklog(records, result_.summary);
  if (probe != nullptr) {
    probe->Stop();
    const absl::Duration loaded =
        load_.loop == Loop::kOpen ? result_.summary.sending : result_.summary.whole;
    result_.workers = probe->Reports(start, start + loaded);
  }
  result_.verdict =
      bench::Judge(load_.loop, result_.summary, result_.backlog, bench::Together(result_.workers));
  return records;
}

absl::Status Bench::Write(const std::vector<Record>& records) const {
  const std::string table = bench::TableOf(result_);
  if (flags_.json == "-") {
    Note(table);
  } else {
    PrintAnswer(table);
  }
  if (flags_.json.empty()) return absl::OkStatus();
  const std::string json = bench::JsonOf(result_, records, flags_.details) + "\n";
  if (flags_.json == "-") {
    PrintAnswer(json);
    return absl::OkStatus();
  }
  std::ofstream file(flags_.json);
  file << json;
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("--json: can't write ", flags_.json));
}

int Bench::Go() {
  absl::Status status = ChooseModel();
  if (status.ok()) status = Fit();
  if (!status.ok()) {
    PrintError(status);
    return 1;
  }
  result_.date = absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
  result_.endpoint = flags_.connection.endpoint;
  result_.model = model_.name();
  result_.revision = model_.revision();
  result_.load = load_.words;
  result_.loop = load_.loop;
  result_.seed = flags_.seed.value_or(0);
  if (flags_.warm_up && *flags_.warm_up > 0) {
    Note(absl::StrCat("warming up with ", *flags_.warm_up, " requests"));
    Send(AtOnce(*flags_.warm_up), kWarmUpAtOnce, 1);
  }
  const absl::StatusOr<std::vector<Record>> records = Measure();
  if (records.ok() && flags_.peak && !interrupted()) {
    Note(absl::StrCat("sending ", *flags_.peak, " requests at once"));
    result_.peak = bench::Summarize(Send(AtOnce(*flags_.peak), absl::nullopt, 2), {});
  }
  result_.interrupted = interrupted();
  status = records.ok() ? Write(*records) : records.status();
  if (!status.ok()) PrintError(status);
  return status.ok() && result_.summary.succeeded > 0 ? 0 : 1;
}

}  // namespace

int RunBench(Arguments args) {
  BenchFlags flags;
  const Flags declared = flags.Declared();
  const absl::StatusOr<std::vector<std::string>> words = declared.Parse(args);
  if (!words.ok()) return UsageError("bench", words.status());
  if (flags.help) {
    PrintAnswer(kHelp + declared.Help());
    return 0;
  }
  absl::Status wrong = CheckFlags(flags);
  if (!words->empty()) wrong = absl::InvalidArgumentError("unexpected \"" + words->front() + "\"");
  if (wrong.ok()) wrong = ReadReadyFile(&flags);
  if (!wrong.ok()) return UsageError("bench", wrong);
  absl::StatusOr<BenchLoad> load = MakeLoad(flags);
  if (!load.ok()) return UsageError("bench", load.status());
  PrepareSignals();
  const auto client = Client::Create(flags.connection);
  if (!client.ok()) return UsageError("bench", client.status());
  Bench bench(std::move(flags), *std::move(load), client->get());
  const auto interrupt = Interrupt::Watch([&bench] { bench.Interrupt(); });
  if (!interrupt.ok()) {
    PrintError(interrupt.status());
    return 1;
  }
  return bench.Go();
}

}  // namespace tandem::cli
