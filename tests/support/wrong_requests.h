#pragma once
#include <string>

#include "absl/strings/str_cat.h"

namespace tandem {

// Values of the fields that a client's request and a worker's Submit share, as text that either
// message parses, and the field that has to be named. Both sides have to refuse each of them.
struct WrongRequest {
  const char* text;
  const char* field;
};

inline constexpr WrongRequest kWrongRequests[] = {
    {"sampling { temperature: -1 }", "sampling.temperature"},
    {"sampling { temperature: 101 }", "sampling.temperature"},
    {"sampling { temperature: nan }", "sampling.temperature"},
    {"sampling { top_p: 0 }", "sampling.top_p"},
    {"sampling { top_p: nan }", "sampling.top_p"},
    {"sampling { top_p: 1.1 }", "sampling.top_p"},
    {"sampling { min_p: -0.1 }", "sampling.min_p"},
    {"sampling { min_p: 1.1 }", "sampling.min_p"},
    {"sampling { presence_penalty: 3 }", "sampling.presence_penalty"},
    {"sampling { frequency_penalty: -3 }", "sampling.frequency_penalty"},
    {"sampling { repetition_penalty: 0 }", "sampling.repetition_penalty"},
    {"sampling { repetition_penalty: 11 }", "sampling.repetition_penalty"},
    {"sampling { n: 0 }", "sampling.n"},
    {"sampling { n: 9 }", "sampling.n"},
    {"sampling { presence_penalty: nan }", "sampling.presence_penalty"},
    {"sampling { frequency_penalty: nan }", "sampling.frequency_penalty"},
    {"sampling { repetition_penalty: nan }", "sampling.repetition_penalty"},
    {"sampling { logit_bias { key: 5 value: 101 } }", "sampling.logit_bias[5]"},
    {"sampling { logit_bias { key: 5 value: nan } }", "sampling.logit_bias[5]"},
    {"stopping { max_tokens: 0 }", "stopping.max_tokens"},
    {"stopping { max_tokens: 2 min_tokens: 3 }", "stopping.min_tokens"},
    {"stopping { stop: \"a\" stop: \"\" }", "stopping.stop[1]"},
    {"stopping { time_limit_ms: 0 }", "stopping.time_limit_ms"},
    {"stopping { time_limit_ms: 3600001 }", "stopping.time_limit_ms"},
    {"response { logprobs: 21 }", "response.logprobs"},
    {"response { prompt_logprobs: 21 }", "response.prompt_logprobs"},
    {"priority: 101", "priority"},
    {"priority: -101", "priority"},
};

// More entries than there may be, each of them wrong too. Millions fit into a message, so that
// nobody may look at each: the one field that has to be named is sampling.logit_bias.
inline std::string FloodOfBiases() {
  std::string text = "sampling {";
  for (int id = 0; id < 2000; ++id) {
    absl::StrAppend(&text, " logit_bias { key: ", -1 - id, " value: 1000 }");
  }
  return text + " }";
}

}  // namespace tandem
