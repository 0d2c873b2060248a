#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "base/silence.h"
#include "router/placement/worker_channel.h"
#include "router/placement/worker_facts.h"
#include "router/placement/worker_stream.h"
#include "tandem/worker/v1/worker.pb.h"

namespace tandem {

// The router's side of one worker: connects, says hello, reconnects after growing pauses, pings
// every second and watches heartbeats, and hands each message to the request it belongs to.
//   life    Start() once, which Tick may come before; Stop() before the last reference goes, waits
//           for gRPC's threads to leave. Nothing connects after it
//   units   load and charge are in tokens
//   threads any. Tick comes from one thread that never waits, ten times a second
class WorkerSession final : public WorkerChannel,
                            public WorkerStream::Listener,
                            public std::enable_shared_from_this<WorkerSession> {
 public:
  struct Options {
    std::string address;                     // host:port
    std::shared_ptr<grpc::Channel> channel;  // to that address
    Incarnation incarnation{};
    Silence::Options silence;                        // after which a worker is taken for dead
    absl::Duration stuck_after = absl::Seconds(30);  // without a step, for an engine with work
    absl::Duration min_backoff = absl::Milliseconds(100);  // pause before the second connection
    absl::Duration max_backoff = absl::Seconds(5);
    size_t max_queued_bytes = 64 << 20;  // messages that wait to be written
    const Clock* clock = RealClock();
    // Called without a lock held when facts() changed.
    std::function<void()> on_change = [] {};
  };

  explicit WorkerSession(Options options);

  void Start();
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);
  // Connects and pings when it is time to; gives a silent worker up.
  void Tick() ABSL_LOCKS_EXCLUDED(mu_);

  // Whether new requests may go here and a broken session is made again; they may, until told.
  // True when that is news: the caller calls on_change once it holds no lock.
  bool Retire(bool retired) ABSL_LOCKS_EXCLUDED(mu_);
  // Retired, and nothing runs here any more.
  bool Done() const ABSL_LOCKS_EXCLUDED(mu_);

  WorkerView View() const ABSL_LOCKS_EXCLUDED(mu_);
  std::shared_ptr<grpc::Channel> channel() const { return options_.channel; }

  absl::StatusOr<uint64_t> Submit(worker::v1::Submit submit, uint64_t charge,
                                  std::shared_ptr<LegSink> sink) override ABSL_LOCKS_EXCLUDED(mu_);
  void Leave(uint64_t handle, bool cancel) override ABSL_LOCKS_EXCLUDED(mu_);
  void CancelOutput(uint64_t handle, uint32_t output) override ABSL_LOCKS_EXCLUDED(mu_);
  void Pause(uint64_t handle) override ABSL_LOCKS_EXCLUDED(mu_);
  void Resume(uint64_t handle) override ABSL_LOCKS_EXCLUDED(mu_);

  void OnMessage(const WorkerStream* from, const worker::v1::SessionResponse& message) override;
  void OnEnd(const WorkerStream* from, absl::Status why) override;

 private:
  struct Leg {
    std::shared_ptr<LegSink> sink;
    uint64_t charge = 0;    // not yet in the worker's report
    bool accepted = false;  // the next report has it
  };
  using Legs = absl::flat_hash_map<uint64_t, Leg>;

  // Nothing, unless a connection is missing and wanted.
  void Connect() ABSL_LOCKS_EXCLUDED(mu_);
  enum class Cause { kBroken, kSilent };
  // Ends the session in `state` and tells every leg; with `only`, if that is still its stream.
  void Drop(WorkerState state, const std::string& why, const WorkerStream* only = nullptr,
            Cause cause = Cause::kBroken) ABSL_LOCKS_EXCLUDED(mu_);
  void OnHello(const WorkerStream* from, const worker::v1::WorkerInfo& hello)
      ABSL_LOCKS_EXCLUDED(mu_);
  void OnLoad(const worker::v1::Load& load) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends what runs on a worker that is stuck, here and there.
  void OnHeartbeat(const WorkerStream* from, const worker::v1::Heartbeat& heartbeat)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Sets the state of a worker that said hello by what it said since; whether that is news.
  bool Judge() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnAccepted(const worker::v1::Accepted& accepted) ABSL_LOCKS_EXCLUDED(mu_);
  void OnRefused(const worker::v1::Refused& refused) ABSL_LOCKS_EXCLUDED(mu_);
  void OnStep(const worker::v1::Step& step) ABSL_LOCKS_EXCLUDED(mu_);
  void SendCancel(uint64_t handle) ABSL_LOCKS_EXCLUDED(mu_);
  void SendControl(worker::v1::SessionRequest message) ABSL_LOCKS_EXCLUDED(mu_);
  void SetState(WorkerState state, const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Removes the leg with its charge; its sink is null when there was none.
  Leg TakeLeg(uint64_t handle) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  const std::unique_ptr<worker::v1::WorkerService::Stub> stub_;

  mutable Mutex mu_;
  CondVar streams_gone_;
  std::shared_ptr<const WorkerFacts> facts_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<WorkerStream> stream_ ABSL_GUARDED_BY(mu_);  // null between connections
  int open_streams_ ABSL_GUARDED_BY(mu_) = 0;                  // until their OnEnd
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  bool retired_ ABSL_GUARDED_BY(mu_) = false;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;  // by its last load
  absl::Status progress_ ABSL_GUARDED_BY(mu_);  // of its engine, by its last heartbeat
  Silence silence_ ABSL_GUARDED_BY(mu_);        // of the worker, since the connection was begun
  absl::Time ping_at_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  uint64_t pings_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Time connect_at_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  absl::Duration backoff_ ABSL_GUARDED_BY(mu_);
  uint64_t next_handle_ ABSL_GUARDED_BY(mu_) = 1;
  Legs legs_ ABSL_GUARDED_BY(mu_);
  uint64_t reported_tokens_ ABSL_GUARDED_BY(mu_) = 0;  // the worker's last load report
  uint64_t charged_tokens_ ABSL_GUARDED_BY(mu_) = 0;   // sum of Leg::charge
};

}  // namespace tandem
