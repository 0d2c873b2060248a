#include "router/placement/worker_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"

namespace tandem {
WorkerTable::WorkerTable(Options options) : options_(std::move(options)) {
  for (const std::string& target : options_.targets) {
    absl::string_view name = target;
    (absl::ConsumePrefix(&name, "dns:///") ? names_ : fixed_).emplace_back(name);
  }
  MutexLock lock(&mu_);
  for (const std::string& name : names_) not_found_[name] = "not looked up yet";
}

void WorkerTable::Start() {
  MakeSessions();  // the fixed addresses are known before the first request
  ticker_ = std::jthread([this] { TickLoop(); });
  reconciler_ = std::jthread([this] { ReconcileLoop(); });
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
  if (reconciler_.joinable()) reconciler_.join();
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
  const auto add = [&out](const std::string& address, const std::string& why) {
    auto facts = std::make_shared<WorkerFacts>();
    facts->address = address;
    facts->detail = why;
    out.views.push_back({std::move(facts), 0});
  };
  for (const auto& [name, why] : not_found_) add(name, why);
  return out;
}

std::shared_ptr<WorkerSession> WorkerTable::MakeSession(const std::string& address) const {
  WorkerSession::Options options = options_.session;
  options.address = address;
  options.channel = MakeChannel(address, options_.channel);
  return std::make_shared<WorkerSession>(std::move(options));
}

std::set<std::string> WorkerTable::Wanted() const {
  std::set<std::string> wanted(fixed_.begin(), fixed_.end());
  for (const auto& [name, addresses] : resolved_) {
    wanted.insert(addresses.begin(), addresses.end());
  }
  return wanted;
}

void WorkerTable::MakeSessions() {
  std::set<std::string> missing;
  {
    MutexLock lock(&mu_);
    missing = Wanted();
    for (const auto& [address, session] : sessions_) missing.erase(address);
  }
  for (const std::string& address : missing) {
    const std::shared_ptr<WorkerSession> made = MakeSession(address);
    {
      MutexLock lock(&mu_);
      sessions_[address] = made;
    }
    made->Start();
  }
}

void WorkerTable::Reconcile() {
  MakeSessions();
  Sessions done;
  bool changed = false;
  {
    MutexLock lock(&mu_);
    const std::set<std::string> wanted = Wanted();
    for (auto at = sessions_.begin(); at != sessions_.end();) {
      changed |= at->second->Retire(!wanted.contains(at->first));
      if (at->second->Done()) {
        done.insert(*at);
        at = sessions_.erase(at);
      } else {
        ++at;
      }
    }
  }
  if (changed) options_.session.on_change();
  for (const auto& [address, session] : done) session->Stop();
}

bool WorkerTable::Sleep(absl::Duration duration) {
  MutexLock lock(&mu_);
  if (!stopping_) wake_.WaitFor(&mu_, duration);
  return !stopping_;
}

void WorkerTable::TickLoop() {
  do {
    Sessions sessions;
    {
      MutexLock lock(&mu_);
      sessions = sessions_;
    }
    for (const auto& [address, session] : sessions) session->Tick();
  } while (Sleep(options_.tick));
}

void WorkerTable::ReconcileLoop() {
  do {
    Reconcile();
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
    if (!resolved_.contains(name)) not_found_[name] = std::string(found.status().message());
    return;
  }
  if (found->size() > options_.max_workers) {
    LogWarning("a name leads to too many addresses",
               {{"name", name}, {"addresses", found->size()}, {"used", options_.max_workers}});
    found->resize(options_.max_workers);
  }
  MutexLock lock(&mu_);
  not_found_.erase(name);
  resolved_[name] = *std::move(found);
}

}  // namespace tandem
