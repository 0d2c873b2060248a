#include "client/bench/prompt.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/bench/random.h"

namespace tandem::bench {
namespace {

// The token at `place` of one of a stream's sequences; whoever asks gets the same.
int32_t TokenAt(uint64_t sequence, uint64_t place, uint32_t vocabulary) {
  const uint64_t bits = Mix(sequence + place * 0x9e3779b97f4a7c15u) >> 32;
  return static_cast<int32_t>((bits * vocabulary) >> 32);
}

uint64_t Sequence(uint64_t seed, Stream stream, uint64_t name) {
  return Mix(Random(seed, stream).Next() + Mix(name));
}

}  // namespace

std::vector<int32_t> MakePrompt(const PlannedRequest& request, uint64_t index, uint64_t seed,
                                uint32_t vocabulary) {
  std::vector<int32_t> prompt(request.input_tokens);
  const uint64_t shared = Sequence(seed, Stream::kShared, 0);
  const uint64_t alone = Sequence(seed, Stream::kRequest, index);
  uint64_t block = 0;
  for (uint32_t i = 0; i < request.input_tokens; ++i) {
    const uint32_t in_block = i % kBlockTokens;
    const bool named = i / kBlockTokens < request.blocks.size();
    if (named && in_block == 0) {
      block = Sequence(seed, Stream::kBlock, request.blocks[i / kBlockTokens]);
    }
    const bool common = i < request.shared_tokens;
    prompt[i] = TokenAt(common  ? shared
                        : named ? block
                                : alone,
                        named && !common ? in_block : i, vocabulary);
  }
  return prompt;
}

absl::Status CheckFits(const Plan& plan, uint32_t max_context) {
  const auto size = [](const PlannedRequest& r) {
    return uint64_t{r.input_tokens} + r.output_tokens;
  };
  const auto too_long = std::count_if(
      plan.begin(), plan.end(), [&](const PlannedRequest& r) { return size(r) > max_context; });
  if (too_long == 0) return absl::OkStatus();
  const PlannedRequest& longest = *std::max_element(
      plan.begin(), plan.end(), [&](const auto& a, const auto& b) { return size(a) < size(b); });
  return absl::InvalidArgumentError(absl::StrCat(
      too_long, " of ", plan.size(), " requests are too long for the model's context of ",
      max_context, " tokens; the longest has ", longest.input_tokens, " of input and ",
      longest.output_tokens, " of output. --max-input and --max-output cut them, --skip-long ",
      "leaves them out"));
}

}  // namespace tandem::bench
