#pragma once
#include <functional>
#include <map>
#include <memory>
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
  // Calls `follower` (none: null) now and whenever a part is blocked or cleared, in that order. It
  // must not wait, nor call back.
  void Follow(std::function<void(bool ready)> follower) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Tell() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  std::function<void(bool ready)> follower_ ABSL_GUARDED_BY(mu_);
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
