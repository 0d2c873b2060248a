#pragma once
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "router/store/usage.h"

namespace tandem {

// Closes admissions whose router died before their end, and forgets those that have their row, so
// that every request has one row and the table of admissions stays small.
//   life    Start returns when nothing of an earlier life of this router is left open; then one
//           thread looks again every `interval` until it is destroyed. `close` outlives it
//   errors  Start's are the store's; later ones are logged and tried again
//   threads `close` is called by one at a time
class OrphanCloser {
 public:
  using Close = std::function<absl::StatusOr<OrphansClosed>(const OrphanQuery&, int limit)>;
  struct Options {
    std::string router;  // its configured name
    Incarnation incarnation{};
    absl::Duration interval = absl::Minutes(1);
    // No request lives for so long: an older admission without a row has no router any more.
    absl::Duration request_life = absl::Hours(24);
    const Clock* wall = nullptr;
    std::function<void(int64_t abandoned)> closed;  // told of each batch that had some
  };
  static absl::StatusOr<std::unique_ptr<OrphanCloser>> Start(Close close, Options options);
  ~OrphanCloser();
  OrphanCloser(const OrphanCloser&) = delete;
  OrphanCloser& operator=(const OrphanCloser&) = delete;

 private:
  OrphanCloser(Close close, Options options)
      : close_(std::move(close)), options_(std::move(options)) {}

  absl::Status CloseAll() ABSL_LOCKS_EXCLUDED(mu_);
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  bool stopping() ABSL_LOCKS_EXCLUDED(mu_);

  const Close close_;
  const Options options_;
  std::thread thread_;

  Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem
