#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/bench/distribution.h"
#include "client/bench/record.h"

namespace tandem::bench {

// What a request has to keep to count as good; what is not given always holds.
struct Goals {
  absl::optional<absl::Duration> ttft, tpot, e2e;
  bool any() const { return ttft || tpot || e2e; }
};

// "ttft:200,tpot:50,e2e:5000", in milliseconds, each at most once.
absl::StatusOr<Goals> ParseGoals(absl::string_view text);

struct Summary {
  size_t planned = 0, sent = 0, succeeded = 0, failed = 0;
  size_t given_up = 0;                      // cancelled by us, at Ctrl-C
  size_t short_outputs = 0;                 // succeeded with fewer tokens than were asked for
  std::map<std::string, size_t> errors;     // failed ones by status code
  std::map<std::string, std::string> said;  // the first message of each code
  absl::Duration sending;                   // from the start until the last request was due
  absl::Duration whole;                     // until the last one ended
  // Of those that succeeded; cached is the part of input that a prefix cache had.
  uint64_t input_tokens = 0, cached_tokens = 0, output_tokens = 0;
  double requests_per_s = 0, output_tokens_per_s = 0, tokens_per_s = 0;  // those, over `whole`
  double in_flight_mean = 0;  // from due to ended, over `whole`
  size_t in_flight_max = 0;
  Distribution ttft_ms, tpot_ms, itl_ms, e2e_ms;  // of those that succeeded
  Distribution lag_ms;                            // of all that were sent
  absl::optional<size_t> good;  // succeeded and within the goals, where there are any
};

Summary Summarize(absl::Span<const Record> records, const Goals& goals);

}  // namespace tandem::bench
