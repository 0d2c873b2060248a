#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "base/mutex.h"
#include "base/queue.h"
#include "worker/engine/core.h"

namespace tandem {

// Is the engine alive? Read by heartbeats while a step may be running.
struct EngineProgress {
  uint64_t step_number = 0;
  absl::Duration age;  // since it finished a step or was idle
};

// The engine's thread and the bounded queue of messages to it.
//   life    Start .. Stop (or the destructor). Stop ends the thread, and with it all calls to the
//           handoff parts and sinks; handoffs that end later are dropped. So: Stop, then destroy
//           the handoff parts, then the model.
//   errors  Unavailable when the queue is full: the caller sends faster than requests are taken
//   threads any
class Engine {
 public:
  static absl::StatusOr<std::unique_ptr<Engine>> Start(const EngineOptions& options,
                                                       const EngineParts& parts);
  ~Engine() { Stop(); }
  void Stop();

  SessionId OpenSession(std::shared_ptr<StepSink> sink);
  // Cancels all its sequences. A step that is running may still call the sink.
  void CloseSession(SessionId session);

  absl::Status Submit(SessionId session, EngineRequest request);
  absl::Status Cancel(SessionId session, uint64_t handle);
  absl::Status SetPaused(SessionId session, uint64_t handle, bool paused);
  absl::Status Reassign(SessionId session, uint64_t handle, uint32_t attempt, std::string peer);
  // A sink is no longer congested.
  void Wake();

  // Refuses new requests from now on.
  void Drain();
  // Whether, after Drain, the last sequence ended within `timeout`.
  bool WaitDrained(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);

  EngineProgress progress() const;
  EngineLoad load() const ABSL_LOCKS_EXCLUDED(mu_);  // at most 0.1 s old

 private:
  using Mailbox = BoundedQueue<EngineMessage>;

  explicit Engine(const EngineParts& parts);
  absl::Status PostFromSession(EngineMessage message);
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

  mutable Mutex mu_;
  CondVar drained_changed_;
  EngineLoad load_ ABSL_GUARDED_BY(mu_);
  bool drained_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time load_sent_ = absl::InfinitePast();  // the thread's

  std::thread thread_;  // last: it uses the rest
};

}  // namespace tandem
