#pragma once
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace tandem::bench {

constexpr size_t kRequestsMax = 1'000'000;          // of one plan
constexpr uint32_t kTokensMax = 4'000'000;          // of one prompt or one output
constexpr uint64_t kOutputTokensMax = 200'000'000;  // of one plan: each leaves a time behind
constexpr uint32_t kBlockTokens = 512;              // as the Mooncake traces cut prompts

// One request: when to send it, and how large it is.
struct PlannedRequest {
  absl::Duration at;           // since the start of the run; a closed loop has no use for it
  uint32_t input_tokens = 0;   // > 0
  uint32_t output_tokens = 0;  // > 0
  // The prompt's first tokens that all requests of the plan begin with.
  uint32_t shared_tokens = 0;
  // Names of the prompt's blocks of kBlockTokens, from its beginning: where two requests name the
  // same one, they have the same tokens there. What is not named is this request's alone.
  std::vector<uint64_t> blocks;
};

// Ascending by `at`. Made whole before anything is sent, and then only carried out.
using Plan = std::vector<PlannedRequest>;

}  // namespace tandem::bench
