#pragma once
#include <cstddef>

namespace tandem {

// From min to max, both included; `without_min`: min is not.
struct ValueRange {
  double min = 0, max = 0;
  bool without_min = false;
};

// What the fields of a request may be, by their path in tandem.inference.v1. The router holds
// clients to it and a worker holds routers to it: neither trusts the other side.
namespace request_limits {

inline constexpr ValueRange kTemperature = {0, 100};
inline constexpr ValueRange kTopP = {0, 1, true};
inline constexpr ValueRange kMinP = {0, 1};
inline constexpr ValueRange kPresencePenalty = {-2, 2};
inline constexpr ValueRange kFrequencyPenalty = {-2, 2};
inline constexpr ValueRange kRepetitionPenalty = {0, 10, true};
inline constexpr ValueRange kN = {1, 8};
inline constexpr ValueRange kLogitBias = {-100, 100};
inline constexpr ValueRange kTimeLimitMs = {1, 3'600'000};
inline constexpr ValueRange kLogprobs = {0, 20};  // of the prompt too
inline constexpr ValueRange kPriority = {-100, 100};

inline constexpr size_t kTokenIdEntries = 1024;  // of logit_bias and of allowed_token_ids
inline constexpr size_t kStops = 16, kStopBytes = 256, kStopTokenIds = 64;
inline constexpr size_t kGrammarBytes = 64 << 10;  // of guided.json_schema and guided.ebnf
inline constexpr size_t kRegexBytes = 16 << 10, kChoices = 256, kChoiceBytes = 1 << 10;
inline constexpr size_t kRequestIdBytes = 128, kCacheSaltBytes = 128;

}  // namespace request_limits
}  // namespace tandem
