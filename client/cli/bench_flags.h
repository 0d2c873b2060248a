#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "client/bench/plan.h"
#include "client/bench/saturation.h"
#include "client/bench/summary.h"
#include "client/cli/flags.h"
#include "client/client.h"

namespace tandem::cli {

// What `tandem bench` was asked for.
struct BenchFlags {
  Client::Options connection;
  std::string model;
  absl::optional<float> rate;  // requests a second; infinite: all at once
  bool even = false;
  absl::optional<uint32_t> concurrency, requests;
  absl::optional<float> duration_s;
  std::string input_tokens = "512", output_tokens = "128";
  absl::optional<uint32_t> shared_tokens;
  std::string trace;
  absl::optional<float> trace_speed;
  bool keep_batches = false;
  absl::optional<uint32_t> max_input, max_output;
  bool skip_long = false;
  absl::optional<uint64_t> seed;
  absl::optional<uint32_t> warm_up, peak;
  absl::optional<float> temperature, timeout_s;
  std::string goals;
  std::vector<std::string> metrics;
  std::string ready_file, json;
  bool details = false;
  bool help = false;

  Flags Declared();
};

// What is to be sent, and how.
struct BenchLoad {
  bench::Plan plan;
  bench::Loop loop = bench::Loop::kOpen;
  std::string words;  // what it is, for people
  bench::Goals goals;
};

// InvalidArgument for flags that do not go together, or are out of range.
absl::Status CheckFlags(const BenchFlags& flags);

// Draws the plan or reads the trace.
absl::StatusOr<BenchLoad> MakeLoad(const BenchFlags& flags);

// Takes the router's address, and those of the workers' metrics, from what `tandem serve
// --ready-file` wrote.
absl::Status ReadReadyFile(BenchFlags* flags);

}  // namespace tandem::cli
