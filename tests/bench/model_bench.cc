// tandem-model-bench MODEL [--threads N] [--prompt N] [--decode N] [--runs N]
//                    [--set scalar|avx2|avx512] [--cpu-time] [--ops] [--pin]
//
// Speed of one model on the CPU backend, with the share of what this machine can do, measured in
// the same run: prefill of a prompt, then decoding one sequence after it. --cpu-time counts one
// thread's own time, for a machine that is busy with other things; --ops says which operation took
// how long; --pin gives each thread a core of its own.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "tests/bench/machine_peak.h"
#include "tests/bench/timed_backend.h"
#include "worker/backend/backend.h"
#include "worker/model/decoder.h"
#include "worker/model/model_files.h"

namespace tandem {
namespace {

struct BenchOptions {
  std::string model;
  int threads = AvailableThreads();
  int prompt = 512;  // tokens
  int decode = 64;   // tokens
  int runs = 7;
  InstructionSet instructions = InstructionSet::kBest;
  clockid_t clock = CLOCK_MONOTONIC;  // or this process's, where other programs take the cores
  bool ops = false;
  bool pin = false;
};

// Multiply-adds of the linear layers for one token, without and with the head, and the bytes that
// decoding one token reads.
struct ModelWork {
  double layer_macs = 0, head_macs = 0, weight_bytes = 0;
  double kv_bytes_per_token = 0;
  double attention_macs_per_key = 0;
};

ModelWork WorkOf(const ModelFiles& files) {
  const ModelSpec& spec = files.spec();
  ModelWork work;
  for (const NamedWeight& weight : files.weights()) {
    const double elements = static_cast<double>(weight.view.rows) * weight.view.cols;
    const bool is_head = weight.name == (spec.tied_embeddings ? "embed" : "lm_head");
    if (weight.name == "embed" && !is_head) continue;  // one row a token
    work.weight_bytes += static_cast<double>(weight.view.bytes);
    if (weight.view.rows > 1) (is_head ? work.head_macs : work.layer_macs) += elements;
  }
  work.kv_bytes_per_token = 8.0 * spec.layers * spec.kv_heads * spec.head_dim;
  work.attention_macs_per_key = 2.0 * spec.layers * spec.q_heads * spec.head_dim;
  return work;
}

double Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double SecondsOf(clockid_t clock, const std::function<void()>& work) {
  const double begin = Now(clock);
  work();
  return Now(clock) - begin;
}

struct Times {
  double best = 0, median = 0;  // seconds
};

Times TimesOf(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2]};
}

class Bench {
 public:
  Bench(const BenchOptions& options, Decoder* decoder, const ModelWork& work, TimedBackend* timed)
      : options_(options), decoder_(decoder), work_(work), timed_(timed) {
    for (uint32_t i = 0; i < decoder->kv()->blocks(); ++i) blocks_.push_back(BlockId{i});
  }

  absl::Status Run() {
    std::vector<double> prefill, decode;
    for (int run = 0; run <= options_.runs; ++run) {  // the first warms up
      absl::Status status;
      timed_->seconds()->clear();
      const double prefill_s = SecondsOf(options_.clock, [&] { status = Prefill(); });
      RETURN_IF_ERROR(status);
      if (run == options_.runs) PrintOps("prefill");
      timed_->seconds()->clear();
      const double decode_s = SecondsOf(options_.clock, [&] { status = Decode(); });
      RETURN_IF_ERROR(status);
      if (run == options_.runs) PrintOps("decode");
      if (run == 0) continue;
      prefill.push_back(prefill_s);
      decode.push_back(decode_s / options_.decode);
    }
    Print(TimesOf(prefill), TimesOf(decode));
    return absl::OkStatus();
  }

 private:
  absl::Status Feed(absl::Span<const int32_t> tokens, int32_t position, bool logits) {
    const int32_t rows = static_cast<int32_t>(tokens.size());
    const SequenceSlice slice{0, rows, position, blocks_};
    const int32_t last[] = {rows - 1};
    return ToStatus(decoder_->Forward(
        {tokens, {&slice, 1}, absl::MakeSpan(last).subspan(0, logits ? 1 : 0)}, nullptr));
  }

  absl::Status Prefill() {
    std::vector<int32_t> tokens(options_.prompt);
    for (int i = 0; i < options_.prompt; ++i) tokens[i] = (i * 7919 + 13) % decoder_->spec().vocab;
    for (int at = 0; at < options_.prompt; at += decoder_->max_rows()) {
      const int rows = std::min(decoder_->max_rows(), options_.prompt - at);
      const bool is_last = at + rows == options_.prompt;
      RETURN_IF_ERROR(Feed(absl::MakeSpan(tokens).subspan(at, rows), at, is_last));
    }
    return absl::OkStatus();
  }

  absl::Status Decode() {
    for (int i = 0; i < options_.decode; ++i) {
      const int32_t token[] = {(i * 31 + 7) % decoder_->spec().vocab};
      RETURN_IF_ERROR(Feed(token, options_.prompt + i, true));
    }
    return absl::OkStatus();
  }

  // Of the last run.
  void PrintOps(const char* phase) const {
    if (!options_.ops) return;
    for (const auto& [op, seconds] : *timed_->seconds()) {
      std::printf("    %-8s %-22s %9.3f ms\n", phase, op.c_str(), 1e3 * seconds);
    }
  }

  void Print(const Times& prefill, const Times& decode) const {
    const MachinePeak peak = MeasurePeak(options_.threads);
    const double tokens = options_.prompt;
    const double flop = 2 * (work_.layer_macs * tokens + work_.head_macs +
                             work_.attention_macs_per_key * tokens * tokens / 2);
    const double context = tokens + options_.decode / 2.0;
    const double bytes = work_.weight_bytes + work_.kv_bytes_per_token * context;
    std::printf("peak     %8.1f GFLOP/s float32, %.1f GB/s read, %d threads\n",
                peak.flop_per_s / 1e9, peak.bytes_per_s / 1e9, options_.threads);
    std::printf(
        "prefill  %8.1f tok/s median, %.1f best, %d tokens: %.1f GFLOP/s, %.0f %% of peak\n",
        tokens / prefill.median, tokens / prefill.best, options_.prompt,
        flop / prefill.median / 1e9, 100 * flop / prefill.median / peak.flop_per_s);
    std::printf(
        "decode   %8.1f tok/s median, %.1f best, at %.0f tokens: %.1f GB/s, %.0f %% of peak\n",
        1 / decode.median, 1 / decode.best, context, bytes / decode.median / 1e9,
        100 * bytes / decode.median / peak.bytes_per_s);
  }

  const BenchOptions options_;
  Decoder* const decoder_;
  const ModelWork work_;
  TimedBackend* const timed_;
  std::vector<BlockId> blocks_;
};

absl::StatusOr<BenchOptions> ParseArguments(int argc, char** argv) {
  BenchOptions options;
  for (int i = 1; i < argc; ++i) {
    const absl::string_view name = argv[i];
    if (!absl::StartsWith(name, "--")) {
      options.model = argv[i];
      continue;
    }
    if (name == "--pin") {
      options.pin = true;
      continue;
    }
    if (name == "--ops") {
      options.ops = true;
      continue;
    }
    if (name == "--cpu-time") {
      options.clock = CLOCK_PROCESS_CPUTIME_ID;
      options.threads = 1;
      continue;
    }
    const absl::string_view value = i + 1 < argc ? argv[++i] : "";
    int* const number = name == "--threads"  ? &options.threads
                        : name == "--prompt" ? &options.prompt
                        : name == "--decode" ? &options.decode
                        : name == "--runs"   ? &options.runs
                                             : nullptr;
    if (number != nullptr && absl::SimpleAtoi(value, number) && *number > 0) continue;
    if (name == "--set" && (value == "scalar" || value == "avx2" || value == "avx512")) {
      options.instructions = value == "scalar" ? InstructionSet::kScalar
                             : value == "avx2" ? InstructionSet::kAvx2
                                               : InstructionSet::kAvx512;
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(name, " ", value, ": not understood"));
  }
  if (options.model.empty()) return absl::InvalidArgumentError("no model");
  return options;
}

absl::Status Main(int argc, char** argv) {
  ASSIGN_OR_RETURN(const BenchOptions options, ParseArguments(argc, argv));
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(options.model));
  ASSIGN_OR_RETURN(std::unique_ptr<Backend> cpu,
                   MakeCpuBackend({options.threads, options.instructions}));
  if (options.pin) PinThreads();
  TimedBackend backend(std::move(cpu), options.clock);
  std::unique_ptr<Decoder> decoder;
  absl::Status status;
  const uint32_t blocks = (options.prompt + options.decode) / 16 + 1;
  const double load_s = SecondsOf(options.clock, [&] {
    auto loaded = Decoder::Load(*files, &backend, {.kv_blocks = blocks, .max_rows = 512});
    status = loaded.status();
    if (loaded.ok()) decoder = *std::move(loaded);
  });
  RETURN_IF_ERROR(status);
  std::printf("load     %8.2f s\n", load_s);
  return Bench(options, decoder.get(), WorkOf(*files), &backend).Run();
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  const absl::Status status = tandem::Main(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr,
               "%s\nusage: tandem-model-bench MODEL [--threads N] [--prompt N] [--decode N] "
               "[--runs N] [--set scalar|avx2|avx512] [--cpu-time] [--ops] [--pin]\n",
               std::string(status.message()).c_str());
  return 1;
}
