#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/http_server.h"
#include "base/metrics.h"
#include "base/mutex.h"

namespace tandem {

// Whether a process should get work, and if not, why. Ready when no part has a reason against it.
//   threads any
class Readiness {
 public:
  // `part` is not ready because of `reason`, which is shown: no client's text. True if it was.
  bool Block(const std::string& part, const std::string& reason) ABSL_LOCKS_EXCLUDED(mu_);
  void Clear(const std::string& part) ABSL_LOCKS_EXCLUDED(mu_);
  std::map<std::string, std::string> reasons() const ABSL_LOCKS_EXCLUDED(mu_);  // empty: ready
  // Calls `follower` (none: null) with what holds now, and whenever that changes: in that order,
  // one call at a time, no lock held. The one before is not called any more when this returns; no
  // follower may call this.
  void Follow(std::function<void(bool ready)> follower) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // Tells the follower what it does not know yet, unless another thread is at it, which then does.
  void Tell() ABSL_LOCKS_EXCLUDED(mu_);

  mutable Mutex mu_;
  CondVar told_one_;
  std::function<void(bool ready)> follower_ ABSL_GUARDED_BY(mu_);
  std::optional<bool> told_ ABSL_GUARDED_BY(mu_);  // what the follower heard last
  bool telling_ ABSL_GUARDED_BY(mu_) = false;      // a thread is calling it
  std::map<std::string, std::string> reasons_ ABSL_GUARDED_BY(mu_);
};

// The three pages of every process:
//   /metrics  Prometheus' text format
//   /healthz  200 while `alive` is OK (always, if there is none), else 503: restart the process
//   /readyz   200 or 503, with {"ready": ..., "reasons": {part: reason}}
// `registry` and `readiness` outlive the server. An error names the option observability.listen.
absl::StatusOr<std::unique_ptr<HttpServer>> ServeObservability(
    const std::string& listen, const MetricRegistry* registry, const Readiness* readiness,
    std::function<absl::Status()> alive = nullptr);

}  // namespace tandem
