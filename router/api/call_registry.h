#pragma once
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "router/api/relay.h"

namespace tandem {

// The requests that are in the router, until their clients have been answered.
//   errors  Add: AlreadyExists for an id whose request has not ended, Unavailable when there are
//           too many or the router is stopping
//   threads any
class CallRegistry {
 public:
  explicit CallRegistry(size_t max_inflight) : max_inflight_(max_inflight) {}

  absl::Status Add(const std::shared_ptr<Relay>& relay) ABSL_LOCKS_EXCLUDED(mu_);
  void Remove(const Relay* relay) ABSL_LOCKS_EXCLUDED(mu_);
  size_t size() const ABSL_LOCKS_EXCLUDED(mu_);

  void Tick() ABSL_LOCKS_EXCLUDED(mu_);  // Relay::Tick of each
  void StopAccepting() ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until none runs; false when `timeout` passed first.
  bool WaitUntilEmpty(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);
  void FailAll(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  std::vector<std::shared_ptr<Relay>> All() const ABSL_LOCKS_EXCLUDED(mu_);

  const size_t max_inflight_;
  mutable Mutex mu_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_map<const Relay*, std::shared_ptr<Relay>> relays_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, const Relay*> latest_ ABSL_GUARDED_BY(mu_);  // of each id
};

}  // namespace tandem
