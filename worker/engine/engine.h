#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "base/engine_progress.h"
#include "base/mutex.h"
#include "base/queue.h"
#include "worker/engine/core.h"

namespace tandem {

// The engine's thread and the bounded queue of messages to it.
//   life    Start .. Stop (or the destructor). Stop ends the thread, and with it all calls to the
//           handoff parts and sinks; handoffs that end later are dropped. So: Stop, then destroy
//           the handoff parts, then the model.
//   errors  Unavailable when a session has kSubmits requests, or kMessages messages, that the
//           engine has not taken yet: it sends faster than they are taken. No session can crowd
//           out others, as long as at most kSessions are open
//   threads any
class Engine {
 public:
  static constexpr uint32_t kSubmits = 1024, kMessages = 2048, kSessions = 64;

  static absl::StatusOr<std::unique_ptr<Engine>> Start(const EngineOptions& options,
                                                       const EngineParts& parts);
  ~Engine() { Stop(); }
  void Stop();

  absl::StatusOr<SessionId> OpenSession(std::shared_ptr<StepSink> sink) ABSL_LOCKS_EXCLUDED(mu_);
  // Cancels all its sequences. A step that is running may still call the sink.
  void CloseSession(SessionId session) ABSL_LOCKS_EXCLUDED(mu_);

  absl::Status Submit(SessionId session, EngineRequest request) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Cancel(SessionId session, uint64_t handle) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CancelOutput(SessionId session, uint64_t handle, uint32_t output)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status SetPaused(SessionId session, uint64_t handle, bool paused) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Reassign(SessionId session, uint64_t handle, uint32_t attempt, std::string peer)
      ABSL_LOCKS_EXCLUDED(mu_);
  // A sink is no longer congested.
  void Wake();

  // Refuses new requests from its next round on. A second call changes nothing.
  void Drain();
  // Whether, after Drain, the last sequence ended within `timeout`.
  bool WaitDrained(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);

  EngineProgress progress() const;                   // while a step may be running
  EngineLoad load() const ABSL_LOCKS_EXCLUDED(mu_);  // at most 0.1 s old

 private:
  using Mailbox = BoundedQueue<EngineMessage>;

  explicit Engine(const EngineParts& parts);
  absl::Status PostFromSession(SessionId session, uint32_t most, EngineMessage message)
      ABSL_LOCKS_EXCLUDED(mu_);
  void Post(EngineMessage message);
  void Loop();
  void Publish(bool worked) ABSL_LOCKS_EXCLUDED(mu_);

  const Clock* const clock_;
  const EngineMetrics* const metrics_;
  const std::shared_ptr<Mailbox> mailbox_;  // shared with handoffs that may outlive the engine
  std::unique_ptr<EngineCore> core_;        // the thread's
  std::atomic<uint64_t> next_session_{1};

  std::atomic<uint64_t> step_number_{0};
  std::atomic<int64_t> progress_nanos_;
  std::atomic<bool> idle_{true};
  std::atomic<bool> draining_{false};

  mutable Mutex mu_;
  // Messages of each open session that the engine has not taken yet; shared with these.
  absl::flat_hash_map<SessionId, std::shared_ptr<std::atomic<uint32_t>>> queued_
      ABSL_GUARDED_BY(mu_);
  CondVar drained_changed_;
  EngineLoad load_ ABSL_GUARDED_BY(mu_);
  bool drained_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time load_sent_ = absl::InfinitePast();  // the thread's

  std::thread thread_;  // last: it uses the rest
};

}  // namespace tandem
