#include "router/usage/orphan_closer.h"

#include "base/log.h"
#include "base/status.h"
#include "base/thread.h"

namespace tandem {
namespace {

constexpr int kBatch = 1000;  // admissions of one transaction, which others wait for

}  // namespace

absl::StatusOr<std::unique_ptr<OrphanCloser>> OrphanCloser::Start(Close close, Options options) {
  std::unique_ptr<OrphanCloser> closer(new OrphanCloser(std::move(close), std::move(options)));
  RETURN_IF_ERROR(closer->CloseAll());
  OrphanCloser* const started = closer.get();
  ASSIGN_OR_RETURN(closer->thread_,
                   StartThread("closing admissions", [started] { started->Run(); }));
  return closer;
}

OrphanCloser::~OrphanCloser() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool OrphanCloser::stopping() {
  MutexLock lock(&mu_);
  return stopping_;
}

absl::Status OrphanCloser::CloseAll() {
  const absl::Time now = options_.wall->Now();
  const OrphanQuery query = {.router = options_.router,
                             .incarnation = static_cast<uint64_t>(options_.incarnation),
                             .admitted_before = now - options_.request_life,
                             .now = now};
  for (bool more = true; more && !stopping();) {
    ASSIGN_OR_RETURN(const OrphansClosed closed, close_(query, kBatch));
    if (closed.abandoned > 0) {
      LogWarning("requests without an end are closed", {{"requests", closed.abandoned}});
      if (options_.closed) options_.closed(closed.abandoned);
    }
    more = closed.more;
  }
  return absl::OkStatus();
}

void OrphanCloser::Run() {
  absl::Status last;
  while (true) {
    {
      MutexLock lock(&mu_);
      if (!stopping_) wake_.WaitFor(&mu_, options_.interval);
      if (stopping_) return;
    }
    const absl::Status now = CloseAll();
    if (now != last && !now.ok()) LogWarning("admissions can't be closed", {{"why", now}});
    last = now;
  }
}

}  // namespace tandem
