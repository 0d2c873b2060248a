#pragma once
#include <optional>
#include <string>
#include <vector>

#include "router/api/relay.h"

namespace tandem {

// What a relay's state, changed under its lock, asks for once that is released.
struct Relay::Calls {
  struct LegCall {
    std::shared_ptr<WorkerChannel> session;
    uint64_t handle = 0;
    bool cancel = false;
  };
  std::vector<LegCall> leave;
  struct OutputCall {
    std::shared_ptr<WorkerChannel> session;
    uint64_t handle = 0;
    uint32_t output = 0;
  };
  std::vector<OutputCall> cancel;
  bool ready = false;
  bool conflict = false;                  // a worker contradicted what was reported before
  std::vector<absl::Duration> latencies;  // each since the tokens before, of one output
  std::string model;                      // of the latencies
  std::vector<std::string> failures;      // FailureName of each attempt that has failed
  bool quarantined = false;
  // A pair of workers between which a handoff succeeded, or can't.
  std::optional<WorkerPair> worked, failed;
  bool dispatch = false;  // another attempt
  Dispatcher unused;      // dropped without the lock: it may have the last relay
};

}  // namespace tandem
