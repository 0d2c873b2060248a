#pragma once
#include "absl/types/optional.h"

namespace tandem::bench {

// Processor time, in seconds over all processors of this machine, since it or this process began.
struct CpuTime {
  double busy = 0;
  double all = 0;  // busy and idle
  double own = 0;  // this process's share of busy
};

// From /proc/stat; none where there is no such file.
absl::optional<CpuTime> ReadCpuTime();

}  // namespace tandem::bench
