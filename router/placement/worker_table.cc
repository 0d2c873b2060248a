#include "router/placement/worker_table.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status.h"

namespace tandem {

WorkerTable::WorkerTable(Options options) : options_(std::move(options)) {
  for (const std::string& target : options_.targets) {
    absl::string_view name = target;
    (absl::ConsumePrefix(&name, "dns:///") ? names_ : fixed_).emplace_back(name);
  }
  MutexLock lock(&mu_);
  for (const std::string& name : names_) failures_[name] = "not looked up yet";
}

void WorkerTable::Start() {
  ticker_ = std::jthread([this] { TickLoop(); });
  if (!names_.empty()) resolver_ = std::jthread([this] { ResolveLoop(); });
}

WorkerTable::~WorkerTable() { Stop(); }

void WorkerTable::Stop() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  if (ticker_.joinable()) ticker_.join();
  if (resolver_.joinable()) resolver_.join();
  Sessions sessions;
  {
    MutexLock lock(&mu_);
    sessions = sessions_;
  }
  for (const auto& [address, session] : sessions) session->Stop();
}

WorkerSnapshot WorkerTable::Snapshot() const {
  WorkerSnapshot out;
  MutexLock lock(&mu_);
  out.views.reserve(sessions_.size());
  out.sessions.reserve(sessions_.size());
  for (const auto& [address, session] : sessions_) {
    out.views.push_back(session->View());
    out.sessions.push_back(session);
  }
  for (const auto& [name, why] : failures_) {
    auto facts = std::make_shared<WorkerFacts>();
    facts->address = name;
    facts->detail = why;
    out.views.push_back({std::move(facts), 0});
  }
  return out;
}

absl::StatusOr<std::shared_ptr<WorkerSession>> WorkerTable::MakeSession(
    const std::string& address) const {
  WorkerSession::Options options = options_.session;
  options.address = address;
  ASSIGN_OR_RETURN(options.channel, MakeChannel(address, options_.channel));
  return std::make_shared<WorkerSession>(std::move(options));
}

void WorkerTable::Reconcile() {
  Sessions fresh;
  Sessions done;
  {
    MutexLock lock(&mu_);
    std::set<std::string> wanted(fixed_.begin(), fixed_.end());
    for (const auto& [name, addresses] : resolved_) {
      wanted.insert(addresses.begin(), addresses.end());
    }
    for (const std::string& address : wanted) {
      if (sessions_.contains(address)) continue;
      auto made = MakeSession(address);
      if (made.ok()) {
        fresh[address] = sessions_[address] = *std::move(made);
      } else {
        failures_[address] = std::string(made.status().message());
      }
    }
    for (auto at = sessions_.begin(); at != sessions_.end();) {
      at->second->Retire(!wanted.contains(at->first));
      if (at->second->Done()) {
        done.insert(*at);
        at = sessions_.erase(at);
      } else {
        ++at;
      }
    }
  }
  for (const auto& [address, session] : fresh) session->Start();
  for (const auto& [address, session] : done) session->Stop();
}

bool WorkerTable::Sleep(absl::Duration duration) {
  MutexLock lock(&mu_);
  if (!stopping_) wake_.WaitFor(&mu_, duration);
  return !stopping_;
}

void WorkerTable::TickLoop() {
  do {
    Reconcile();
    Sessions sessions;
    {
      MutexLock lock(&mu_);
      sessions = sessions_;
    }
    for (const auto& [address, session] : sessions) session->Tick();
  } while (Sleep(options_.tick));
}

void WorkerTable::ResolveLoop() {
  do {
    for (const std::string& name : names_) Resolve(name);
  } while (Sleep(options_.resolve_interval));
}

// What was found before stays when a look-up fails: a broken name server must not cost workers.
void WorkerTable::Resolve(const std::string& name) {
  absl::StatusOr<std::vector<std::string>> found = options_.resolve(name);
  if (!found.ok()) {
    LogWarning("name lookup failed", {{"name", name}, {"error", found.status()}});
    MutexLock lock(&mu_);
    if (!resolved_.contains(name)) failures_[name] = std::string(found.status().message());
    return;
  }
  if (found->size() > options_.max_workers) {
    LogWarning("a name leads to too many addresses",
               {{"name", name}, {"addresses", found->size()}, {"used", options_.max_workers}});
    found->resize(options_.max_workers);
  }
  MutexLock lock(&mu_);
  failures_.erase(name);
  resolved_[name] = *std::move(found);
}

}  // namespace tandem
