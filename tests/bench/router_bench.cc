// tandem-router-bench --endpoint HOST:PORT --pid PID [--streams N] [--tokens N] [--prompt-ids N]
//                     [--requests N] [--rounds N]
//
// Processor time that a router takes, next to a gRPC server that streams the same messages and does
// nothing else, in turn in one run. PID is the router's, on this machine. For tokens, with workers
// that take 20 ms a step however many they have:
//   tandem serve --unified --model DIR --set worker.backend=sim --set worker.sim.step=20ms
//       --set worker.sim.decode_token=0s --set worker.engine.max_sequences=256
// For prompts, --tokens 1 --prompt-ids 55000 (220 KB): then requests a second are printed too.
#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "client/client.h"
#include "tests/bench/bare_server.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

struct BenchOptions {
  std::string endpoint;
  int pid = 0;
  int streams = 256;    // at once
  int tokens = 250;     // of each answer
  int prompt_ids = 16;  // of each prompt
  int requests = 0;     // a round; 0: one a stream
  int rounds = 5;
};

double CpuSeconds(pid_t pid) {
  clockid_t clock;
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) {
    std::fprintf(stderr, "tandem-router-bench: there is no process %d\n", static_cast<int>(pid));
    std::exit(1);
  }
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Keeps a number of requests under way until all are answered.
class Load {
 public:
  Load(Client* client, const BenchOptions& options) : client_(client), options_(options) {}

  struct Result {
    int64_t tokens = 0;
    int64_t messages = 0;
    absl::Duration time;
  };
  absl::StatusOr<Result> Run() {
    const absl::Time start = absl::Now();
    for (int i = 0; i < options_.streams; ++i) Begin();
    MutexLock lock(&mu_);
    while (running_ > 0) ended_.Wait(&mu_);
    if (!failure_.ok()) return failure_;
    result_.time = absl::Now() - start;
    return result_;
  }

 private:
  class Listener final : public GenerateListener {
   public:
    explicit Listener(Load* load) : load_(load) {}
    void OnResponse(const iv1::GenerateResponse& response) override {
      ++messages_;
      for (const auto& output : response.outputs()) tokens_ += output.token_ids_size();
    }
    void OnEnd(const absl::Status& status) override { load_->End(status, tokens_, messages_); }

   private:
    Load* const load_;
    int64_t tokens_ = 0, messages_ = 0;
  };

  void Begin() {
    {
      MutexLock lock(&mu_);
      if (begun_ == std::max(options_.requests, options_.streams)) return;
      ++begun_;
      ++running_;
    }
    iv1::GenerateRequest request;
    for (int i = 0; i < options_.prompt_ids; ++i) {
      request.mutable_token_ids()->add_ids(i % 250);
    }
    request.mutable_response()->set_token_ids(true);
    request.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(options_.tokens));
    request.mutable_stopping()->set_ignore_eos(true);
    client_->Begin(std::move(request), absl::Minutes(5), std::make_unique<Listener>(this));
  }

  void End(const absl::Status& status, int64_t tokens, int64_t messages) {
    Begin();
    MutexLock lock(&mu_);
    if (!status.ok()) failure_ = status;
    result_.tokens += tokens;
    result_.messages += messages;
    if (--running_ == 0) ended_.NotifyAll();
  }

  Client* const client_;
  const BenchOptions options_;
  Mutex mu_;
  CondVar ended_;
  int begun_ = 0, running_ = 0;
  absl::Status failure_;
  Result result_;
};

struct Figures {
  double us_a_token = 0, us_a_request = 0, requests_s = 0, tokens_s = 0, core = 0;
};

absl::StatusOr<Figures> Measure(const std::string& endpoint, pid_t pid,
                                const BenchOptions& options) {
  Client::Options to;
  to.endpoint = endpoint;
  ASSIGN_OR_RETURN(const auto client, Client::Create(to));
  const double before = CpuSeconds(pid);
  ASSIGN_OR_RETURN(const Load::Result result, Load(client.get(), options).Run());
  const double cpu = CpuSeconds(pid) - before;
  const double seconds = absl::ToDoubleSeconds(result.time);
  const double requests = std::max(options.requests, options.streams);
  return Figures{1e6 * cpu / static_cast<double>(result.tokens), 1e6 * cpu / requests,
                 requests / seconds, static_cast<double>(result.tokens) / seconds, cpu / seconds};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status Run(const BenchOptions& options, const BareServer& bare) {
  std::vector<double> router, alone;
  for (int round = 0; round < options.rounds; ++round) {
    for (const bool is_router : {true, false}) {
      ASSIGN_OR_RETURN(const Figures f, Measure(is_router ? options.endpoint : bare.endpoint,
                                                is_router ? options.pid : bare.pid, options));
      std::printf(
          "%-6s %8.2f us/token %9.1f us/request %8.0f tokens/s %7.0f requests/s "
          "%5.2f cores\n",
          is_router ? "router" : "bare", f.us_a_token, f.us_a_request, f.tokens_s, f.requests_s,
          f.core);
      (is_router ? router : alone).push_back(f.us_a_token);
    }
  }
  std::printf("median: router %.2f us/token, a bare server %.2f, so %.2f more and %.2f times it\n",
              Median(router), Median(alone), Median(router) - Median(alone),
              Median(router) / Median(alone));
  return absl::OkStatus();
}

absl::StatusOr<BenchOptions> Parse(int argc, char** argv) {
  BenchOptions options;
  const std::pair<absl::string_view, int*> numbers[] = {
      {"--pid", &options.pid},           {"--streams", &options.streams},
      {"--tokens", &options.tokens},     {"--prompt-ids", &options.prompt_ids},
      {"--requests", &options.requests}, {"--rounds", &options.rounds}};
  for (int i = 1; i + 1 < argc; i += 2) {
    const absl::string_view name = argv[i];
    if (name == "--endpoint") {
      options.endpoint = argv[i + 1];
      continue;
    }
    const auto number = std::find_if(std::begin(numbers), std::end(numbers),
                                     [name](const auto& one) { return one.first == name; });
    if (number == std::end(numbers) || !absl::SimpleAtoi(argv[i + 1], number->second)) {
      return absl::InvalidArgumentError(absl::StrCat(name, " ", argv[i + 1], ": not understood"));
    }
  }
  if (options.endpoint.empty() || options.pid == 0) {
    return absl::InvalidArgumentError("give --endpoint HOST:PORT and --pid PID of a router");
  }
  return options;
}

absl::Status Main(int argc, char** argv) {
  ASSIGN_OR_RETURN(const BenchOptions options, Parse(argc, argv));
  const BareServer bare = ForkBareServer(absl::Milliseconds(options.tokens > 1 ? 20 : 1));
  return Run(options, bare);
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  const absl::Status status = tandem::Main(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "tandem-router-bench: %s\n", status.ToString().c_str());
  return 1;
}
