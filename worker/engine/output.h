#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "kvstore/handoff/handoff.h"
#include "worker/sampler/logprobs.h"

// What the engine tells its sessions.
namespace tandem {

enum class FinishReason : uint8_t { kStop, kLength, kTimeLimit, kCancelled };

struct SequenceFinish {
  FinishReason reason = FinishReason::kStop;
  std::optional<int32_t> stop_token_id;  // kStop: which; none at the end of a guided language
  friend bool operator==(const SequenceFinish&, const SequenceFinish&) = default;
};

// News of one output of a request, which has ended when `finish` is set. The request has ended when
// all its outputs have (kPrefill: then `handoff` still follows, except after kCancelled and
// kTimeLimit), or with `handoff`, or with `error`, which is for all its outputs; nothing comes
// after that.
struct SequenceOutput {
  uint64_t handle = 0;
  uint32_t attempt = 0;
  uint32_t output_index = 0;
  uint32_t first_index = 0;  // in the output, of the first of `token_ids`
  std::vector<int32_t> token_ids;
  std::vector<PositionLogprobs> logprobs;  // one a token, or none
  std::vector<PositionLogprobs>
      prompt_logprobs;         // with output 0's token 0; one a prompt token, the first empty
  uint32_t cached_tokens = 0;  // with the same, from who computed the prompt: that it had already
  std::optional<SequenceFinish> finish;
  std::optional<HandoffSent> handoff;
  absl::Status error;
};

struct StepOutput {
  uint64_t step_number = 0;
  std::vector<SequenceOutput> sequences;  // in the order in which things happened
};

struct EngineLoad {
  uint32_t waiting = 0;
  uint32_t running = 0;
  uint32_t blocks_total = 0;
  uint32_t blocks_free = 0;                // that a new request could have, blocks_unused included
  uint32_t blocks_unused = 0;              // cached, and in nobody's use
  uint32_t blocks_ready = 0;               // cached, in use or not
  uint64_t queued_prefill_tokens = 0;      // prompt tokens accepted and not yet computed
  uint64_t outstanding_decode_tokens = 0;  // that the running sequences may still produce
  float prefill_tokens_per_second = 0;     // of the last seconds; 0 when nothing ran
  float decode_tokens_per_second = 0;
  bool draining = false;
  friend bool operator==(const EngineLoad&, const EngineLoad&) = default;
};

// One session's end of the engine.
//   order   each Submit is answered at once by exactly one of OnAccepted and OnRefused; after
//           OnAccepted the request ends exactly once in an OnStep, unless its session is closed
//   threads called by the engine's thread, and must not block it
class StepSink {
 public:
  virtual ~StepSink() = default;
  // The request is in the queue. `cached_tokens` of its prompt are in the cache now; it may have
  // more or fewer when it is admitted.
  virtual void OnAccepted(uint64_t handle, uint32_t cached_tokens) = 0;
  // Nothing of it runs here, now or later.
  virtual void OnRefused(uint64_t handle, const absl::Status& status) = 0;
  virtual void OnStep(StepOutput output) = 0;
  virtual void OnLoad(const EngineLoad& load) = 0;
  // True while so much is unsent that the session's sequences should not run.
  virtual bool congested() const = 0;
};

}  // namespace tandem
