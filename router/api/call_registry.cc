#include "router/api/call_registry.h"

#include "base/clock.h"
#include "base/status.h"
#include "router/api/error_map.h"

namespace tandem {

absl::Status CallRegistry::CheckBytes(size_t bytes) const {
  if (bytes_ == 0 || bytes_ + bytes <= options_.max_inflight_bytes) return absl::OkStatus();
  return TooManyBytes(bytes_, bytes, options_.max_inflight_bytes);
}

absl::Status CallRegistry::TakeBytes(size_t bytes) {
  MutexLock lock(&mu_);
  RETURN_IF_ERROR(CheckBytes(bytes));
  bytes_ += bytes;
  return absl::OkStatus();
}

void CallRegistry::GiveBytes(size_t bytes) {
  MutexLock lock(&mu_);
  bytes_ -= bytes;
}

absl::Status CallRegistry::Add(const std::shared_ptr<Relay>& relay, size_t bytes) {
  MutexLock lock(&mu_);
  if (stopping_) return Stopping();
  // A client that has its whole answer may use the id again, though gRPC is not done here yet.
  const auto same = latest_.find(relay->request_id());
  if (same != latest_.end() && !same->second->ended()) return DuplicateRequest(relay->request_id());
  if (relays_.size() >= options_.max_inflight) {
    return TooManyRequests(relays_.size(), options_.max_inflight);
  }
  RETURN_IF_ERROR(CheckBytes(bytes));
  relays_[relay.get()] = {relay, bytes};
  bytes_ += bytes;
  latest_[relay->request_id()] = relay.get();
  return absl::OkStatus();
}

void CallRegistry::Remove(const Relay* relay) {
  std::shared_ptr<Relay> last;  // destroyed without the lock
  MutexLock lock(&mu_);
  const auto found = relays_.find(relay);
  if (found == relays_.end()) return;
  last = std::move(found->second.relay);
  bytes_ -= found->second.bytes;
  relays_.erase(found);
  const auto latest = latest_.find(relay->request_id());
  if (latest->second == relay) latest_.erase(latest);
  if (relays_.empty()) changed_.NotifyAll();
}

size_t CallRegistry::size() const {
  MutexLock lock(&mu_);
  return relays_.size();
}

std::vector<std::shared_ptr<Relay>> CallRegistry::All() const {
  MutexLock lock(&mu_);
  std::vector<std::shared_ptr<Relay>> out;
  out.reserve(relays_.size());
  for (const auto& [key, entry] : relays_) out.push_back(entry.relay);
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
  const absl::Time deadline = RealClock()->Now() + timeout;
  MutexLock lock(&mu_);
  while (!relays_.empty()) {
    const absl::Duration left = deadline - RealClock()->Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mu_, left);
  }
  return true;
}

void CallRegistry::FailAll(const absl::Status& why) {
  for (const std::shared_ptr<Relay>& relay : All()) relay->Fail(why);
}

}  // namespace tandem
