#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// Joins the messages of one request to whole outputs, and takes the times that its reader saw.
//   threads one at a time
class Answer {
 public:
  struct Output {
    std::string text;
    std::vector<int32_t> token_ids;
    std::vector<inference::v1::PositionLogprobs> logprobs;
    inference::v1::OutputFinish finish;
  };

  explicit Answer(absl::Time sent) : sent_(sent) {}

  // `now`: when the message came.
  void Add(const inference::v1::GenerateResponse& response, absl::Time now);

  const inference::v1::ResponseStart& start() const { return start_; }
  const inference::v1::ResponseEnd& end() const { return end_; }
  const std::vector<Output>& outputs() const { return outputs_; }  // by output index

  // From sending the request; zero until there is a first token.
  absl::Duration first_token() const { return first_ - sent_; }
  absl::Duration total() const { return last_ - sent_; }
  // Tokens after the first, by the time after the first; 0 where one token is all there is.
  double tokens_per_second() const;

 private:
  const absl::Time sent_;
  absl::Time first_ = sent_;
  absl::Time last_ = sent_;
  bool any_token_ = false;
  inference::v1::ResponseStart start_;
  inference::v1::ResponseEnd end_;
  std::vector<Output> outputs_;
};

// One line for people: which processes served it, tokens, time to first token, speed, KV bytes.
//   router  where it was asked for
std::string Summary(const Answer& answer, const std::string& router);

// What is known of log-probabilities, as a table for people: a line a position, of the prompt and
// then of each output, with the token that stands there and the likeliest ones. Empty where nothing
// is known. Tokens are ids: their text may be part of a character.
std::vector<std::string> LogprobLines(const Answer& answer);

// One line of JSON for an output: text, token ids, logprobs, finish reason, usage, workers,
// attempts, KV bytes, and times in milliseconds.
std::string OutputJson(const Answer& answer, size_t index);

}  // namespace tandem
