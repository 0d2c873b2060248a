#pragma once
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "router/store/store.h"

namespace tandem {

// Follows what changes in a store, so that a router answers from memory and yet honours a revoked
// key or a new limit a moment after any router wrote it.
//   life    Start returns when everything there is was handed over; then one thread goes on asking
//           until the feed is destroyed. The store and the clock outlive it
//   errors  Start's are the store's. Later ones are logged once each time they change, and what was
//           handed over stays: `behind` says for how long that has been so
//   threads `apply` is called by one at a time, in the order of the changes
class StoreFeed {
 public:
  struct Options {
    absl::Duration interval = absl::Seconds(1);
    int page = 1000;  // records asked for at once
  };
  using Apply = std::function<void(const Changes&)>;
  // What it asks a store for.
  struct Source {
    std::function<absl::StatusOr<int64_t>()> revision;
    std::function<absl::StatusOr<Changes>(int64_t revision, int limit)> changes_since;
  };
  static Source SourceOf(Store* store);

  static absl::StatusOr<std::unique_ptr<StoreFeed>> Start(Source source, const Clock* clock,
                                                          Options options, Apply apply);
  ~StoreFeed();
  StoreFeed(const StoreFeed&) = delete;
  StoreFeed& operator=(const StoreFeed&) = delete;

  // How long ago the store was last known to hold nothing else.
  absl::Duration behind() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  StoreFeed(Source source, const Clock* clock, Options options, Apply apply)
      : source_(std::move(source)), clock_(clock), options_(options), apply_(std::move(apply)) {}

  absl::Status CatchUp();
  void Run() ABSL_LOCKS_EXCLUDED(mu_);

  const Source source_;
  const Clock* const clock_;
  const Options options_;
  const Apply apply_;
  int64_t revision_ = 0;  // of what was handed over; used by one thread at a time
  std::thread thread_;

  mutable Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time caught_up_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
