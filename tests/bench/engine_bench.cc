// tandem-engine-bench [--weights f32|bf16|f16|int8|int4,...] [--activations f32|int8]
//                     [--threads 1,2] [--prefill 128,512,2048] [--batch 1,4,16]
//                     [--context 512,4096] [--runs N] [--kv-gb N]
//                     [--set scalar|avx2|avx512|avx512vnni] [--ops] [--cpu-time] [--pin]
//
// Speed of a random Qwen3-0.6B-shaped model on the CPU backend: prefill of prompts, then decoding
// of batches at contexts. Each figure stands next to its share of what this machine reads,
// multiplies in float32 and multiplies in bytes, all measured in the same run. `--prefill 0` or
// `--batch 0` leaves those cases out, --ops says which operation took how long. --cpu-time counts
// the process's own time, on one thread, for a machine that is busy with other things; --pin gives
// each thread a core of its own, where a busy machine might put two on one.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "tests/bench/engine_model.h"
#include "tests/bench/machine_peak.h"
#include "tests/bench/timed_backend.h"
#include "worker/backend/backend.h"
#include "worker/model/decoder.h"

namespace tandem {
namespace {

struct BenchOptions {
  std::vector<std::string> weights = {"bf16"};
  std::vector<int> threads = {1, 2};
  std::vector<int> prefill = {128, 512, 2048};
  std::vector<int> batch = {1, 4, 16};
  std::vector<int> context = {512, 4096};
  int runs = 5;
  Activations activations = Activations::kFloat32;
  int kv_gb = 4;  // sequences beyond it share blocks
  InstructionSet instructions = InstructionSet::kBest;
  clockid_t clock = CLOCK_MONOTONIC;
  bool ops = false;
  bool pin = false;
};

struct Storage {
  absl::string_view name;
  DType dtype;
  WeightScheme scheme;
};
constexpr Storage kStorages[] = {{"f32", DType::kF32, WeightScheme::kStored},
                                 {"bf16", DType::kBF16, WeightScheme::kStored},
                                 {"f16", DType::kF16, WeightScheme::kStored},
                                 {"int8", DType::kBF16, WeightScheme::kInt8},
                                 {"int4", DType::kBF16, WeightScheme::kInt4}};

constexpr std::pair<absl::string_view, InstructionSet> kSets[] = {
    {"scalar", InstructionSet::kScalar},
    {"avx2", InstructionSet::kAvx2},
    {"avx512", InstructionSet::kAvx512},
    {"avx512vnni", InstructionSet::kAvx512Vnni}};

double Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// One model on one number of threads.
class Bench {
 public:
  Bench(const BenchOptions& options, Decoder* decoder, const BenchWork& work,
        const MachinePeak& peak, TimedBackend* timed)
      : options_(options), decoder_(decoder), work_(work), peak_(peak), timed_(timed) {
    FillKv();
  }

  absl::Status Prefill(int prompt) {
    std::vector<int32_t> tokens(prompt);
    for (int i = 0; i < prompt; ++i) tokens[i] = (i * 7919 + 13) % decoder_->spec().vocab;
    const std::vector<BlockId> blocks = BlocksOf(0, prompt);
    const auto pass = [&]() -> absl::Status {
      for (int at = 0; at < prompt; at += decoder_->max_rows()) {
        const int rows = std::min(decoder_->max_rows(), prompt - at);
        const SequenceSlice slice{0, rows, at, blocks};
        const int32_t last[] = {rows - 1};
        const size_t wanted = at + rows == prompt ? 1 : 0;
        RETURN_IF_ERROR(ToStatus(decoder_->Forward({absl::MakeSpan(tokens).subspan(at, rows),
                                                    {&slice, 1},
                                                    absl::MakeSpan(last).subspan(0, wanted)},
                                                   nullptr)));
      }
      return absl::OkStatus();
    };
    const double keys = 0.5 * prompt * (prompt + 1.0);
    const double macs =
        work_.layer_macs * prompt + work_.head_macs + work_.attention_macs_per_key * keys;
    return Measure(absl::StrCat("prefill ", prompt), prompt, macs, 0, pass);
  }

  absl::Status Decode(int batch, int context) {
    std::vector<std::vector<BlockId>> blocks;
    std::vector<SequenceSlice> slices;
    std::vector<int32_t> tokens, rows;
    for (int i = 0; i < batch; ++i) blocks.push_back(BlocksOf(i, context + 1));
    for (int i = 0; i < batch; ++i) {
      slices.push_back({i, 1, context, blocks[i]});
      tokens.push_back((i * 31 + 7) % decoder_->spec().vocab);
      rows.push_back(i);
    }
    constexpr int kSteps = 4;
    const auto pass = [&]() -> absl::Status {
      for (int i = 0; i < kSteps; ++i) {
        RETURN_IF_ERROR(ToStatus(decoder_->Forward({tokens, slices, rows}, nullptr)));
      }
      return absl::OkStatus();
    };
    const double keys = 1.0 * batch * (context + 1);
    const double macs =
        (work_.layer_macs + work_.head_macs) * batch + work_.attention_macs_per_key * keys;
    const double bytes = work_.weight_bytes + work_.kv_bytes_per_token * keys;
    return Measure(absl::StrCat("decode ", batch, " at ", context), 1.0 * kSteps * batch,
                   macs * kSteps, bytes * kSteps, pass);
  }

 private:
  // Keys and values of about the size that real ones have.
  void FillKv() {
    uint32_t state = 7;
    std::vector<float> values(decoder_->kv()->layout().slice_bytes() / sizeof(float));
    for (float& value : values) {
      state = state * 1664525 + 1013904223;
      value = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
    }
    for (uint32_t layer = 0; layer < decoder_->kv()->layout().layers; ++layer) {
      for (uint32_t block = 0; block < decoder_->kv()->blocks(); ++block) {
        const auto slice = decoder_->kv()->Slice(layer, BlockId{block});
        std::memcpy(slice.data(), values.data(), slice.size());
      }
    }
  }

  std::vector<BlockId> BlocksOf(int sequence, int tokens) const {
    const uint32_t count = (tokens + 15) / 16;
    std::vector<BlockId> blocks;
    for (uint32_t i = 0; i < count; ++i) {
      blocks.push_back(BlockId{(sequence * count + i) % decoder_->kv()->blocks()});
    }
    return blocks;
  }

  absl::Status Measure(const std::string& name, double tokens, double macs, double bytes,
                       const std::function<absl::Status()>& pass) {
    std::vector<double> seconds;
    timed_->seconds()->clear();
    for (int run = 0; run <= options_.runs; ++run) {  // the first warms up
      const double begin = Now(options_.clock);
      RETURN_IF_ERROR(pass());
      if (run > 0) seconds.push_back(Now(options_.clock) - begin);
    }
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    const double flops = 2 * macs / median, rate = bytes / median;
    std::printf("%-18s %8.1f tok/s (best %.1f) %7.1f GFLOP/s = %3.0f %% of FMA", name.c_str(),
                tokens / median, tokens / seconds.front(), flops / 1e9,
                100 * flops / peak_.flop_per_s);
    if (peak_.int8_op_per_s > 0)
      std::printf(", %3.0f %% of int8", 100 * flops / peak_.int8_op_per_s);
    if (bytes > 0) {
      std::printf("; %5.1f GB/s = %3.0f %% of read", rate / 1e9, 100 * rate / peak_.bytes_per_s);
    }
    std::printf("\n");
    if (options_.ops) {
      for (const auto& [op, total] : *timed_->seconds()) {
        std::printf("    %-22s %9.3f ms\n", op.c_str(), 1e3 * total / (options_.runs + 1));
      }
    }
    std::fflush(stdout);
    return absl::OkStatus();
  }

  const BenchOptions& options_;
  Decoder* const decoder_;
  const BenchWork work_;
  const MachinePeak peak_;
  TimedBackend* const timed_;
};

int MostTokens(const BenchOptions& options) {
  int most = 16;
  for (const int prompt : options.prefill) most = std::max(most, prompt);
  for (const int batch : options.batch) {
    for (const int context : options.context) most = std::max(most, batch * (context + 16));
  }
  return most;
}

absl::Status RunStorage(const BenchOptions& options, const Storage& storage, int threads) {
  const ModelSpec spec = BenchSpec();
  const BenchWork work = WorkOf(spec, storage.dtype, storage.scheme);
  const double block_bytes = 16 * work.kv_bytes_per_token;
  const uint32_t blocks = static_cast<uint32_t>(
      std::min(MostTokens(options) / 16 + 1.0, options.kv_gb * 1e9 / block_bytes));
  ASSIGN_OR_RETURN(std::unique_ptr<Backend> cpu,
                   MakeCpuBackend({threads, options.instructions, options.activations}));
  if (options.pin) PinThreads();
  TimedBackend backend(std::move(cpu), options.clock);
  const BenchModel model(storage.dtype);
  const double begin = Now(options.clock);
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Decoder> decoder,
      Decoder::Load(spec,
                    [&](absl::string_view name, int layer) { return model.Find(name, layer); },
                    &backend, {.kv_blocks = blocks, .max_rows = 512, .weights = storage.scheme}));
  const double load_s = Now(options.clock) - begin;
  const MachinePeak peak = MeasurePeak(threads);
  std::printf(
      "-- %s, %d threads: %.0f MB of weights loaded in %.2f s; peaks %.1f GFLOP/s float32, "
      "%.0f GOP/s int8, %.1f GB/s read; %u blocks of KV\n",
      std::string(storage.name).c_str(), threads, work.weight_bytes / 1e6, load_s,
      peak.flop_per_s / 1e9, peak.int8_op_per_s / 1e9, peak.bytes_per_s / 1e9, blocks);
  Bench bench(options, decoder.get(), work, peak, &backend);
  for (const int prompt : options.prefill) RETURN_IF_ERROR(bench.Prefill(prompt));
  for (const int context : options.context) {
    for (const int batch : options.batch) RETURN_IF_ERROR(bench.Decode(batch, context));
  }
  return absl::OkStatus();
}

// A list of numbers above 0; "0" is the empty one.
absl::StatusOr<std::vector<int>> Numbers(absl::string_view text) {
  std::vector<int> numbers;
  if (text == "0") return numbers;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    int number = 0;
    if (!absl::SimpleAtoi(part, &number) || number < 1) {
      return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": want numbers above 0"));
    }
    numbers.push_back(number);
  }
  return numbers;
}

absl::Status ParseOption(absl::string_view name, absl::string_view value, BenchOptions* options) {
  std::vector<int>* const list = name == "--threads"   ? &options->threads
                                 : name == "--prefill" ? &options->prefill
                                 : name == "--batch"   ? &options->batch
                                 : name == "--context" ? &options->context
                                                       : nullptr;
  if (list != nullptr) {
    ASSIGN_OR_RETURN(*list, Numbers(value));
    return absl::OkStatus();
  }
  int* const number = name == "--runs"    ? &options->runs
                      : name == "--kv-gb" ? &options->kv_gb
                                          : nullptr;
  if (number != nullptr && absl::SimpleAtoi(value, number) && *number > 0) {
    return absl::OkStatus();
  }
  if (name == "--weights") {
    options->weights = absl::StrSplit(value, ',');
    return absl::OkStatus();
  }
  if (name == "--activations" && (value == "f32" || value == "int8")) {
    options->activations = value == "f32" ? Activations::kFloat32 : Activations::kInt8;
    return absl::OkStatus();
  }
  for (const auto& [set_name, set] : kSets) {
    if (name != "--set" || value != set_name) continue;
    options->instructions = set;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(name, " ", value, ": not understood"));
}

absl::Status Main(int argc, char** argv) {
  BenchOptions options;
  for (int i = 1; i < argc; ++i) {
    if (absl::string_view(argv[i]) == "--ops") {
      options.ops = true;
      continue;
    }
    if (absl::string_view(argv[i]) == "--pin") {
      options.pin = true;
      continue;
    }
    if (absl::string_view(argv[i]) == "--cpu-time") {
      options.clock = CLOCK_PROCESS_CPUTIME_ID;
      options.threads = {1};
      continue;
    }
    RETURN_IF_ERROR(ParseOption(argv[i], i + 1 < argc ? argv[i + 1] : "", &options));
    ++i;
  }
  for (const std::string& name : options.weights) {
    const auto storage = std::find_if(std::begin(kStorages), std::end(kStorages),
                                      [&](const Storage& s) { return s.name == name; });
    if (storage == std::end(kStorages)) {
      return absl::InvalidArgumentError(absl::StrCat("--weights ", name, ": not understood"));
    }
    for (const int threads : options.threads) {
      RETURN_IF_ERROR(RunStorage(options, *storage, threads));
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  const absl::Status status = tandem::Main(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\nthe head of tests/bench/engine_bench.cc lists the options\n",
               std::string(status.message()).c_str());
  return 1;
}
