#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "text/grammar.h"
#include "worker/sampler/sampler.h"

namespace tandem {

// Which router connection a request came by, unique in the engine's life.
enum class SessionId : uint64_t {};

enum class Role : uint8_t {
  kUnified,  // compute the prompt and decode
  kPrefill,  // compute the prompt, sample the first token, hand the KV to `peer`
  kDecode,   // wait for the KV, then decode
};

// What earlier attempts at other workers delivered of one output, which goes on behind it.
struct ResumedOutput {
  std::vector<int32_t> tokens;  // from its first on; fewer than max_tokens, none of them a stop id
  bool ended = false;           // it does not run
};

// One request as the engine takes it: already validated (worker/service/request_check.h), so the
// engine checks only what depends on its own state (room in the pool, room in the queue).
struct EngineRequest {
  uint64_t handle = 0;  // unique among the session's live requests
  std::string request_id;
  uint32_t attempt = 0;
  Role role = Role::kUnified;
  std::string peer;             // kPrefill: the decode worker's handoff address
  std::vector<int32_t> prompt;  // not empty
  SamplingSpec sampling;
  uint32_t outputs = 1;           // of the one prompt: 1 to 8
  uint32_t max_tokens = 0;        // of each; >= 1; prompt and max_tokens fit the context
  std::vector<int32_t> stop_ids;  // sorted; the model's end-of-sequence ids too unless ignored
  uint32_t min_tokens = 0;        // so many come before a stop id; <= max_tokens
  absl::Duration time_limit = absl::InfiniteDuration();  // from Submit to FinishReason::kTimeLimit
  std::optional<uint32_t> logprobs;         // of each produced token: how many of the likeliest
  std::optional<uint32_t> prompt_logprobs;  // the same of each prompt token but the first
  std::optional<GrammarSource> guided;      // each output is a sentence of it
  int32_t priority = 0;                     // higher first
  absl::Time deadline = absl::InfiniteFuture();
  std::string cache_salt;     // shares cached KV with requests of the same salt alone
  bool cache_bypass = false;  // neither uses nor fills the prefix cache
  // By output; empty: nothing of any was delivered. Not all have ended. Where the roles are split
  // only one output can be resumed.
  std::vector<ResumedOutput> resume;
};

}  // namespace tandem
