#pragma once
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/sampler/sampler.h"

namespace tandem {

// What a draw depends on beside logits and spec: all of it follows from the request and the tokens
// so far, so a sequence that goes on elsewhere has it again.
struct DrawContext {
  absl::Span<const int32_t> prompt, output;  // tokens so far
  absl::Span<const int32_t> forbidden;       // that can't be drawn here
};

// Changes logits as a request asks for, before the draw. The order is vLLM's: bias, repetition,
// frequency, presence; what is not allowed or is forbidden becomes -infinity at the end. Each step
// is one float32 operation, and a result beyond float32's range its largest value.
//   errors  Internal as Argmax, judged by the logits as they came
//   threads one at a time: it keeps scratch memory between calls, and nothing else
class LogitAdjuster {
 public:
  // Valid until the next call; `logits` themselves where nothing is asked for.
  //   requires ids of spec and context in [0, logits.size())
  absl::StatusOr<absl::Span<const float>> Adjust(absl::Span<const float> logits,
                                                 const SamplingSpec& spec,
                                                 const DrawContext& context);

 private:
  void Count(absl::Span<const int32_t> ids);
  void PenalizeRepetition(float penalty, const DrawContext& context);
  void PenalizeOutput(float frequency, float presence, const DrawContext& context);

  std::vector<float> logits_;
  std::vector<uint32_t> counts_;  // by id; all 0 between uses
  std::vector<int32_t> counted_;  // ids whose count is not 0
};

}  // namespace tandem
