#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/prompt/text_model.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

struct PromptLimits {
  size_t max_prompt_bytes = 8 << 20;  // of a chat, and of what its template writes
  uint32_t max_context = 0;           // tokens of prompt and output together
  // Tokens of prompt and output that the model's largest worker has room for.
  uint64_t worker_tokens = UINT64_MAX;
  uint32_t vocabulary = 0;
  uint32_t default_max_tokens = 1024;  // 0: what there is room for
};

// A request's input as tokens.
struct Prompt {
  std::vector<int32_t> ids;
  // What the request may produce, within what is left of the context: as asked, or else the default
  // within the room of the model's largest worker.
  uint32_t max_tokens = 0;
};

// Renders, tokenises, truncates and checks the input of a request. Look-alikes of special tokens in
// a caller's text stay text.
//   errors  InvalidArgument with the field's path (google.rpc.BadRequest), the limit and the length
//   threads any; takes up to seconds for megabytes of text: keep it off event loops
absl::StatusOr<Prompt> MakePrompt(const TextModel& model,
                                  const inference::v1::GenerateRequest& request,
                                  const PromptLimits& limits, absl::Time now);

struct TokenizedText {
  std::vector<int32_t> ids;
  std::string rendered;  // of a chat: what the template wrote
};

// The input of a TokenizeRequest, under the same limits on bytes.
absl::StatusOr<TokenizedText> TokenizeInput(const TextModel& model,
                                            const inference::v1::TokenizeRequest& request,
                                            size_t max_prompt_bytes, absl::Time now);

// The request's sampling with the model's defaults, then Tandem's, where it is silent, and `seed`
// unless it has one.
inference::v1::SamplingParams ResolveSampling(const inference::v1::SamplingParams& asked,
                                              const GenerationDefaults& defaults, uint64_t seed);

}  // namespace tandem
