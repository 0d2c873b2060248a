#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "router/prompt/text_model.h"
#include "text/detokenizer.h"
#include "text/stop_matcher.h"

namespace tandem {

// Turns the tokens of one output into the text to send, and ends it at a stop string.
//   shape   token by token, so that the text never depends on how tokens were grouped
//   life    Push* -> Finish. After a stop string (matched()) nothing more may be pushed
//   errors  Internal: a bug in the text crate
//   threads one at a time
class Deltas {
 public:
  struct Options {
    std::vector<std::string> stops;
    uint32_t min_tokens = 0;  // in the text of so many no stop string is looked for
    bool include_stop = false;
    bool skip_special = true;
    bool no_text = false;  // text is looked at for stop strings only
  };
  static absl::StatusOr<Deltas> Create(const TextModel& model, Options options);

  // The text that is certain after `token`; it lags behind where a code point or a stop string may
  // go on.
  absl::StatusOr<std::string> Push(int32_t token);
  // The rest: no token follows.
  absl::StatusOr<std::string> Finish();

  // The stop string that ended the text.
  std::optional<std::string> matched() const;

 private:
  Deltas(Options options, Detokenizer detokenizer, StopMatcher matcher)
      : options_(std::move(options)),
        detokenizer_(std::move(detokenizer)),
        matcher_(std::move(matcher)) {}
  std::string Match(absl::string_view piece);
  bool Idle() const { return options_.no_text && options_.stops.empty(); }

  Options options_;
  Detokenizer detokenizer_;
  StopMatcher matcher_;
  uint32_t pushed_ = 0;  // tokens
};

}  // namespace tandem
