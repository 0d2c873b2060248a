#pragma once
#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace tandem {

// How long a peer has said nothing, for who looks a few times per interval.
//   units   a look counts for one interval at most: a process that was itself stopped, or starved,
//           reads what came meanwhile before it takes the sender for dead
//   threads one at a time
class Silence {
 public:
  struct Options {
    absl::Duration interval = absl::Seconds(1);  // in which a peer that lives says something
    uint32_t missed = 3;                         // intervals without a word that make it dead
    absl::Duration limit() const { return interval * missed; }
  };
  Silence(Options options, absl::Time now) : options_(options), seen_(now) {}

  void Heard(absl::Time now) {
    lasted_ = absl::ZeroDuration();
    seen_ = now;
  }
  // Whether the peer has been silent for Options::limit().
  bool Look(absl::Time now) {
    lasted_ += std::min(now - seen_, options_.interval);
    seen_ = now;
    return lasted_ >= options_.limit();
  }

 private:
  Options options_;
  absl::Duration lasted_;
  absl::Time seen_;
};

}  // namespace tandem
