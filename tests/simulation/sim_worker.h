#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/queue.h"
#include "kvstore/pool/block_pool.h"
#include "router/placement/worker_channel.h"
#include "router/placement/worker_facts.h"
#include "tests/simulation/sim_handoffs.h"
#include "tests/simulation/weights.h"
#include "worker/engine/core.h"
#include "worker/service/request_check.h"

namespace tandem {

// A worker with a real engine core, and the router's session to it, over a network with delays. The
// messages of a session arrive in order; when it breaks, both ends hear of it in their own time.
//   life    Start, then faults as the simulation likes
//   threads one
class SimWorker final : public WorkerChannel {
 public:
  struct Options {
    uint64_t number = 0;  // of the worker, in its simulation
    std::string address;
    WorkerRole role = WorkerRole::kUnified;
    uint32_t blocks = 96;
    Weights weights;
    SimTiming timing;  // of a backend that takes time
    EngineOptions engine;
    GuidePool* guides = nullptr;  // without threads; null: guided requests are refused
  };
  SimWorker(Events* events, SimHandoffs* handoffs, Options options);

  void Start();
  // The process is gone at once, and comes back after `away`.
  void Kill(absl::Duration away);
  // The session breaks and is made again; the process lives.
  void Reset();
  // Nothing moves for so long; the router takes it for dead after three seconds.
  void Stall(absl::Duration length);
  // Killed, it comes back with other weights under its address, and so much later with its own.
  void Swap(Weights other, absl::Duration length);
  // Takes nothing new, and is started anew when it has nothing left to do, or after `patience`.
  void Drain(absl::Duration patience);

  WorkerView View() const;
  // Of the process that is there: blocks in use, and whatever broke a rule of the model's.
  bool idle() const;
  std::vector<std::string> faults() const;

  absl::StatusOr<uint64_t> Submit(worker::v1::Submit submit, uint64_t charge,
                                  std::shared_ptr<LegSink> sink) override;
  void Leave(uint64_t handle, bool cancel) override;
  void CancelOutput(uint64_t handle, uint32_t output) override;
  void Pause(uint64_t handle) override;
  void Resume(uint64_t handle) override;

  const std::string& address() const { return options_.address; }

 private:
  class Sink;
  // One life of the process.
  struct Process {
    Process(Events* events, SimHandoffs* handoffs, const Options& options, const Weights& weights,
            LifeId number);
    const LifeId number;
    const std::string revision;
    absl::Duration computing;  // how long the step that runs takes: what it says is said then
    LoadedWeights loaded;
    std::unique_ptr<BlockPool> pool;
    std::unique_ptr<HandoffSender> sender;
    std::unique_ptr<HandoffReceiver> receiver;
    // Shared with handoffs that end after the process.
    std::shared_ptr<BoundedQueue<EngineMessage>> posted;
    std::unique_ptr<EngineCore> core;
    absl::Time stands_still_until = absl::InfinitePast();
    bool draining = false;
  };
  using ToEngine = std::function<void(EngineCore&, SessionId)>;

  void Step(LifeId number);
  void Connect();
  // The router's end of the session is over; the worker's follows.
  void Break(const absl::Status& why);
  // Over the network, in order.
  void SendToWorker(ToEngine message);
  void Deliver(uint64_t epoch, ToEngine message);
  void SendToRouter(uint64_t epoch, std::function<void()> message);
  absl::Time InOrder(absl::Time* last, absl::Duration delay);

  Events* const events_;
  SimHandoffs* const handoffs_;
  const Options options_;
  const RequestLimits limits_;
  Weights weights_;                   // of the next process
  std::unique_ptr<Process> process_;  // null while it is away
  LifeId lives_ = 0;

  // The router's side.
  uint64_t epoch_ = 0;  // of the session; 0 while there is none
  uint64_t epochs_ = 0;
  std::shared_ptr<WorkerFacts> facts_;
  std::map<uint64_t, std::shared_ptr<LegSink>> legs_;
  uint64_t next_handle_ = 1;
  absl::Time last_to_worker_ = absl::InfinitePast(), last_to_router_ = absl::InfinitePast();
  std::vector<std::string> faults_;
};

}  // namespace tandem
