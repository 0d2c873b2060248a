#include "client/bench/load_probe.h"

#include <algorithm>

#include "base/clock.h"
#include "base/status.h"
#include "base/thread.h"
#include "client/http_get.h"

namespace tandem::bench {
namespace {

constexpr absl::Duration kEvery = absl::Milliseconds(500);
constexpr absl::Duration kTimeout = absl::Seconds(2);

absl::StatusOr<WorkerPage> ReadPage(const std::string& worker) {
  ASSIGN_OR_RETURN(const HttpPage page, HttpGet(worker, "/metrics", kTimeout));
  return ParseWorkerPage(page.body, RealClock()->Now());
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoadProbe>> LoadProbe::Start(std::vector<std::string> workers) {
  std::unique_ptr<LoadProbe> probe(new LoadProbe(std::move(workers)));
  RETURN_IF_ERROR(probe->Read());
  ASSIGN_OR_RETURN(probe->thread_,
                   StartThread("workers' metrics", [raw = probe.get()] { raw->Loop(); }));
  return probe;
}

absl::Status LoadProbe::Read() {
  absl::Status status;
  for (size_t i = 0; i < workers_.size(); ++i) {
    absl::StatusOr<WorkerPage> page = ReadPage(workers_[i]);
    if (page.ok()) {
      pages_[i].push_back(*page);
    } else {
      status.Update(Annotate(page.status(), workers_[i]));
    }
  }
  return status;
}

void LoadProbe::Loop() {
  bool last = false;
  while (!last) {
    {
      MutexLock lock(&mu_);
      if (!stopped_) changed_.WaitFor(&mu_, kEvery);
      last = stopped_;
    }
    Read().IgnoreError();
  }
}

void LoadProbe::Stop() {
  {
    MutexLock lock(&mu_);
    stopped_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

std::vector<WorkerReport> LoadProbe::Reports(absl::Time from, absl::Time to) const {
  std::vector<WorkerReport> reports;
  const auto before = [](const WorkerPage& page, absl::Time at) { return page.at < at; };
  for (size_t i = 0; i < workers_.size(); ++i) {
    const std::vector<WorkerPage>& pages = pages_[i];
    auto first = std::lower_bound(pages.begin(), pages.end(), from, before);
    auto last = std::lower_bound(first, pages.end(), to, before);
    if (first != pages.begin()) --first;
    if (last != pages.end()) ++last;
    if (last - first < 2) continue;
    reports.push_back(Report(workers_[i], {&*first, static_cast<size_t>(last - first)}));
  }
  return reports;
}

}  // namespace tandem::bench
