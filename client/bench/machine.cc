#include "client/bench/machine.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace tandem::bench {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

}  // namespace

absl::optional<CpuTime> ReadCpuTime() {
  std::ifstream file("/proc/stat");
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft_irq = 0, stolen = 0;
  file >> name >> user >> nice >> system >> idle >> wait >> irq >> soft_irq >> stolen;
  rusage usage = {};
  if (!file || name != "cpu" || getrusage(RUSAGE_SELF, &usage) != 0) return absl::nullopt;
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const double busy = user + nice + system + irq + soft_irq + stolen;
  return CpuTime{.busy = busy / ticks,
                 .all = (busy + idle + wait) / ticks,
                 .own = Seconds(usage.ru_utime) + Seconds(usage.ru_stime)};
}

}  // namespace tandem::bench
