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
//   units   bytes are of request messages, as they lie in memory
//   errors  Add: AlreadyExists for an id whose request has not ended, Unavailable when there are
//           too many, when they are too large together, or when the router is stopping
//   threads any
class CallRegistry {
 public:
  struct Options {
    size_t max_inflight = 4096;
    size_t max_inflight_bytes = 512 << 20;  // one request alone may have more
  };
  explicit CallRegistry(Options options) : options_(options) {}

  absl::Status Add(const std::shared_ptr<Relay>& relay, size_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  void Remove(const Relay* relay) ABSL_LOCKS_EXCLUDED(mu_);
  // The same limit for calls that have no relay: each TakeBytes that succeeds wants a GiveBytes.
  absl::Status TakeBytes(size_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  void GiveBytes(size_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  size_t size() const ABSL_LOCKS_EXCLUDED(mu_);

  void Tick() ABSL_LOCKS_EXCLUDED(mu_);  // Relay::Tick of each
  void StopAccepting() ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until none runs; false when `timeout` passed first.
  bool WaitUntilEmpty(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);
  void FailAll(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry {
    std::shared_ptr<Relay> relay;
    size_t bytes = 0;
  };
  std::vector<std::shared_ptr<Relay>> All() const ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CheckBytes(size_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  mutable Mutex mu_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_map<const Relay*, Entry> relays_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, const Relay*> latest_ ABSL_GUARDED_BY(mu_);  // of each id
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tandem
