#pragma once
#include <deque>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "tandem/worker/v1/worker.pb.h"
#include "worker/engine/output.h"

namespace tandem {

// What one session has to say and could not write yet: tokens of one output join up, of loads
// and heartbeats only the last is kept, and an answer to a Submit comes before its first token.
//   units   bytes() is about what its steps will take on the wire
//   threads one at a time (under the session's lock)
class Outbox {
 public:
  void Reply(worker::v1::SessionResponse message) { replies_.push_back(std::move(message)); }
  void Step(StepOutput output);
  void SetLoad(worker::v1::Load load) { load_ = std::move(load); }
  void SetHeartbeat(worker::v1::Heartbeat heartbeat) { heartbeat_ = heartbeat; }

  // The next message to write; nothing when all is said. Steps go in messages of about 256 KiB.
  std::optional<worker::v1::SessionResponse> Next();

  size_t replies() const { return replies_.size(); }
  size_t bytes() const { return bytes_; }

 private:
  bool Join(SequenceOutput& output);
  worker::v1::SessionResponse NextStep();

  std::deque<worker::v1::SessionResponse> replies_;
  std::optional<worker::v1::Load> load_;
  std::optional<worker::v1::Heartbeat> heartbeat_;
  std::deque<SequenceOutput> outputs_;
  // By handle and output index: the number of its last one.
  absl::flat_hash_map<std::pair<uint64_t, uint32_t>, uint64_t> last_;
  uint64_t first_ = 0;  // number of outputs_.front()
  uint64_t step_number_ = 0;
  size_t bytes_ = 0;
};

}  // namespace tandem
