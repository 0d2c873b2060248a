#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "base/metric_list.h"
#include "tests/simulation/sim_client.h"
#include "tests/simulation/sim_worker.h"
#include "worker/engine/guide_pool.h"

namespace tandem {

// Workers, and the requests that a router has for them, in one virtual time.
//   threads one
class SimCluster {
 public:
  // Of so many handoffs one fails by itself; 0: none does.
  SimCluster(uint64_t seed, uint64_t one_handoff_fails_in);

  // Its number, address and guides are given to it here.
  SimWorker& AddWorker(SimWorker::Options options);
  SimClient& AddClient(SimClient::Options options);
  // Until so many clients have come, all have their end, and every worker is at rest; then nothing
  // may have broken a rule.
  void Run(size_t clients);

  Events& events() { return events_; }
  SimHandoffs& handoffs() { return handoffs_; }
  const std::vector<std::unique_ptr<SimWorker>>& workers() const { return workers_; }
  const std::vector<std::shared_ptr<SimClient>>& clients() const { return clients_; }

 private:
  bool AtRest() const;

  Events events_;
  SimHandoffs handoffs_;
  MetricRegistry registry_;
  const RouterMetrics metrics_;
  GuidePool guides_;
  std::vector<std::unique_ptr<SimWorker>> workers_;
  std::vector<std::shared_ptr<SimClient>> clients_;
};

}  // namespace tandem
