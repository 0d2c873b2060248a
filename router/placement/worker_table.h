#pragma once
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/grpc_channel.h"
#include "base/mutex.h"
#include "router/placement/resolver.h"
#include "router/placement/worker_session.h"

namespace tandem {

// The workers at one moment. views[i] belongs to sessions[i]; further views stand for names that
// lead nowhere, so that an error message can name them too.
struct WorkerSnapshot {
  std::vector<WorkerView> views;
  std::vector<std::shared_ptr<WorkerSession>> sessions;
};

// Keeps one session to each worker: of fixed addresses, and of those that names resolve to.
//   life    Start() once, then Stop() or the destructor. A worker whose name no longer leads to it
//           gets nothing new and is left when its requests have ended
//   threads any. One thread of its own pings and watches sessions and never waits for anything;
//           another one makes and ends them, a third one resolves names
class WorkerTable {
 public:
  struct Options {
    std::vector<std::string> targets;  // "host:port" or "dns:///name:port"
    absl::Duration resolve_interval = absl::Seconds(10);
    absl::Duration tick = absl::Milliseconds(100);  // how often sessions are looked after
    size_t max_workers = 4096;                      // addresses that names may resolve to
    Resolver resolve = ResolveName;
    ChannelOptions channel;
    WorkerSession::Options session;  // for each; its address and channel are filled in
  };

  explicit WorkerTable(Options options);
  ~WorkerTable();

  void Start() ABSL_LOCKS_EXCLUDED(mu_);
  WorkerSnapshot Snapshot() const ABSL_LOCKS_EXCLUDED(mu_);
  // Ends every session; requests still running on them are told. May be called again, by one
  // thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Sessions = std::map<std::string, std::shared_ptr<WorkerSession>>;  // by address

  void TickLoop() ABSL_LOCKS_EXCLUDED(mu_);
  void ReconcileLoop() ABSL_LOCKS_EXCLUDED(mu_);
  void ResolveLoop() ABSL_LOCKS_EXCLUDED(mu_);
  // False when it is time to stop.
  bool Sleep(absl::Duration duration) ABSL_LOCKS_EXCLUDED(mu_);
  void Resolve(const std::string& name) ABSL_LOCKS_EXCLUDED(mu_);
  // The addresses that should have a session.
  std::set<std::string> Wanted() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Makes a session for each wanted address that has none.
  void MakeSessions() ABSL_LOCKS_EXCLUDED(mu_);
  // Makes the sessions fit what is known of the names.
  void Reconcile() ABSL_LOCKS_EXCLUDED(mu_);
  std::shared_ptr<WorkerSession> MakeSession(const std::string& address) const;

  const Options options_;
  std::vector<std::string> fixed_;  // addresses
  std::vector<std::string> names_;  // "name:port"

  mutable Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  Sessions sessions_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::vector<std::string>> resolved_ ABSL_GUARDED_BY(mu_);  // by name
  std::map<std::string, std::string> not_found_ ABSL_GUARDED_BY(mu_);              // why, by name

  std::jthread ticker_;
  std::jthread reconciler_;
  std::jthread resolver_;  // only where there are names
};

}  // namespace tandem
