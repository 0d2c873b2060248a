#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tandem {

// Finds stop strings in text that comes in pieces, and holds back only what could still be the
// beginning of one. The stop string that is complete first ends the text; of several complete at
// the same byte, the longest. How the text was cut into pieces makes no difference.
//   units   bytes of UTF-8; pieces are whole code points, and so is what comes out
//   life    Push* -> Finish; after a match both return nothing
//   errors  InvalidArgument from Create, naming the stop string by its index: empty, longer than
//           kMaxStopBytes, or more than kMaxStops of them
//   threads one at a time; Push is linear in the text, times the number of stop strings
class StopMatcher {
 public:
  static constexpr size_t kMaxStops = 16;
  static constexpr size_t kMaxStopBytes = 256;

  struct Options {
    std::vector<std::string> stops;
    bool include_stop = false;  // release the stop string itself too
  };
  static absl::Status Check(absl::Span<const std::string> stops);
  static absl::StatusOr<StopMatcher> Create(Options options);

  // The text that is certain after `piece`.
  std::string Push(absl::string_view piece);
  // What was held back: the text has ended without a stop string.
  std::string Finish();

  std::optional<size_t> matched() const { return matched_; }  // index in Options::stops
  int64_t released_bytes() const { return released_bytes_; }  // of all that was returned so far

 private:
  // One stop string, and the Knuth-Morris-Pratt state of its search.
  struct Stop {
    std::string text;
    std::vector<uint16_t> border;  // of each prefix: its longest proper suffix that begins text
    uint16_t length = 0;           // of the beginning of `text` that the input ends with
    bool Advance(char c);          // true: the input ends with `text`
  };

  StopMatcher() = default;
  std::string Release(size_t size);

  std::vector<Stop> stops_;
  bool include_stop_ = false;
  std::string held_;
  std::optional<size_t> matched_;
  int64_t released_bytes_ = 0;
};

}  // namespace tandem
