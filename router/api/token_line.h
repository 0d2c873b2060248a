#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "tandem/worker/v1/worker.pb.h"

namespace tandem {

// The tokens of one output, put in order: two workers report parts of it, partly the same ones, and
// each index is forwarded exactly once.
//   units   indices count the output's tokens from 0
//   order   Next() gives index 0, 1, 2, ...; an index waits for those before it, and for its
//           log-probabilities where they are wanted (a decode worker repeats index 0 without them)
//   errors  Internal when two reports of one index, or two ends, differ, or when a report can't be
//           right; the output is then not to be trusted
//   threads one at a time
class TokenLine {
 public:
  struct Token {
    int32_t id = 0;
    std::unique_ptr<inference::v1::PositionLogprobs> logprobs;  // null unless wanted
    bool last = false;  // the output ends with it, and finish() says how
  };

  TokenLine(uint32_t max_tokens, bool want_logprobs)
      : max_tokens_(max_tokens), want_logprobs_(want_logprobs) {}

  absl::Status Add(const worker::v1::SequenceStep& step);
  // The next token in order, once.
  std::optional<Token> Next();

  // Drops what was not forwarded: the next reports come from another arithmetic.
  //   requires: !ended()
  void Forget();

  // Every token was forwarded, and the output's end is known.
  bool ended() const { return end_ && forwarded_ == *end_; }
  const worker::v1::SequenceFinish& finish() const { return finish_; }
  uint32_t forwarded() const { return forwarded_; }
  std::vector<int32_t> ForwardedIds() const;

 private:
  struct Slot {
    int32_t id = -1;  // not reported yet
    std::unique_ptr<inference::v1::PositionLogprobs> logprobs;
  };
  absl::Status AddToken(uint32_t index, int32_t id,
                        const inference::v1::PositionLogprobs* logprobs);
  absl::Status AddFinish(uint32_t end, const worker::v1::SequenceFinish& finish);

  const uint32_t max_tokens_;
  const bool want_logprobs_;
  std::vector<Slot> slots_;  // by index
  uint32_t forwarded_ = 0;
  std::optional<uint32_t> end_;  // the number of tokens of the whole output
  worker::v1::SequenceFinish finish_;
};

}  // namespace tandem
