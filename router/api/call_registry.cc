#include "router/api/call_registry.h"

#include "router/api/error_map.h"

namespace tandem {

absl::Status CallRegistry::Add(const std::shared_ptr<Relay>& relay) {
  MutexLock lock(&mu_);
  if (stopping_) return Stopping();
  if (running_.contains(relay->request_id())) return DuplicateRequest(relay->request_id());
  if (running_.size() >= max_inflight_) return TooManyRequests(running_.size(), max_inflight_);
  running_[relay->request_id()] = relay;
  return absl::OkStatus();
}

void CallRegistry::Remove(const Relay* relay) {
  std::shared_ptr<Relay> last;  // destroyed without the lock
  MutexLock lock(&mu_);
  const auto found = running_.find(relay->request_id());
  if (found == running_.end() || found->second.get() != relay) return;
  last = std::move(found->second);
  running_.erase(found);
  if (running_.empty()) changed_.NotifyAll();
}

size_t CallRegistry::size() const {
  MutexLock lock(&mu_);
  return running_.size();
}

std::vector<std::shared_ptr<Relay>> CallRegistry::All() const {
  MutexLock lock(&mu_);
  std::vector<std::shared_ptr<Relay>> out;
  out.reserve(running_.size());
  for (const auto& [id, relay] : running_) out.push_back(relay);
  return out;
}

void CallRegistry::Tick() {
  for (const std::shared_ptr<Relay>& relay : All()) relay->Tick();
}

void CallRegistry::StopAccepting() {
  MutexLock lock(&mu_);
  stopping_ = true;
}

bool CallRegistry::WaitUntilEmpty(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(&mu_);
  while (!running_.empty()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mu_, left);
  }
  return true;
}

void CallRegistry::FailAll(const absl::Status& why) {
  for (const std::shared_ptr<Relay>& relay : All()) relay->Fail(why);
}

}  // namespace tandem
