#pragma once
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tandem::bench {

// What became of one request. Times are since the start of the run.
//   units   latencies count from `due`, not from `sent`: what a client that has fallen behind
//           holds back would have waited too
struct Record {
  enum class State { kNotSent, kRunning, kEnded, kGivenUp };  // given up: by us, at Ctrl-C
  State state = State::kNotSent;
  absl::Duration due;   // when it was to be sent; in a closed loop, when its turn came
  absl::Duration sent;  // not before `due`
  absl::Duration first_token, last_token;
  absl::Duration ended;
  uint32_t input_tokens = 0;
  uint32_t cached_tokens = 0;  // of input, that a cache had
  uint32_t output_wanted = 0;
  uint32_t output_tokens = 0;  // that came
  std::vector<float> gaps_s;   // between one token and the next: output_tokens - 1
  absl::Status status;         // of a request that ended

  bool succeeded() const { return state == State::kEnded && status.ok(); }
  absl::Duration lag() const { return sent - due; }
  absl::Duration ttft() const { return first_token - due; }
  absl::Duration e2e() const { return ended - due; }
  // The mean time a token takes after the first; wants two tokens.
  absl::Duration tpot() const { return (last_token - first_token) / (output_tokens - 1); }

  // A message with this many tokens came. Those that come together share the time since the
  // message before, since that is what a reader who shows them evenly sees.
  void Add(uint32_t tokens, absl::Duration now) {
    if (tokens == 0) return;
    uint32_t with_gap = tokens;
    if (output_tokens == 0) {
      first_token = last_token = now;
      --with_gap;
    }
    if (with_gap > 0) {
      gaps_s.insert(gaps_s.end(), with_gap,
                    static_cast<float>(absl::ToDoubleSeconds(now - last_token) / with_gap));
    }
    output_tokens += tokens;
    last_token = now;
  }
};

}  // namespace tandem::bench
