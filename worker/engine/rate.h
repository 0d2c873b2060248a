#pragma once
#include "absl/time/time.h"

namespace tandem {

// Tokens a second of work, over the last seconds: older work counts for less and less.
//   threads one at a time
class RateMeter {
 public:
  // `tokens` took `busy` and were done at `now`.
  void Add(double tokens, absl::Duration busy, absl::Time now);
  // 0 when nothing ran in the last ten seconds.
  float PerSecond(absl::Time now) const;
  // The last known rate, however old; 0 before the first Add.
  double Last() const { return seconds_ > 0 ? tokens_ / seconds_ : 0; }

 private:
  double tokens_ = 0, seconds_ = 0;  // decayed sums
  absl::Time last_ = absl::InfinitePast();
};

}  // namespace tandem
