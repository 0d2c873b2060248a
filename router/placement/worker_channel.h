#pragma once
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "tandem/worker/v1/worker.pb.h"

namespace tandem {

// Hears what one worker does for one request: a "leg" of it. Calls come one at a time, from any
// thread, never with a lock held, and may come before Submit has returned.
class LegSink {
 public:
  virtual ~LegSink() = default;
  virtual void OnAccepted(uint32_t cached_tokens) = 0;
  virtual void OnStep(const worker::v1::SequenceStep& step) = 0;
  // Nothing more comes from this leg: the worker refused it (`why` is the worker's), or the
  // connection to it broke, whatever became of the process, or it fell silent or got stuck.
  virtual void OnRefused(absl::Status why) = 0;
  virtual void OnLost(absl::Status why) = 0;
  virtual void OnSilent(absl::Status why) = 0;
};

// The way to one worker, as a request sees it.
//   units   charge is in tokens
//   errors  Submit fails with Unavailable when there is no session to send on
//   threads any
class WorkerChannel {
 public:
  virtual ~WorkerChannel() = default;
  // Sends the request and returns its handle. Its prompt and output tokens (`charge`) count as
  // this worker's load until the worker's own report has them.
  virtual absl::StatusOr<uint64_t> Submit(worker::v1::Submit submit, uint64_t charge,
                                          std::shared_ptr<LegSink> sink) = 0;
  // Nothing more is wanted of this leg: its sink is dropped and, with `cancel`, the worker told.
  virtual void Leave(uint64_t handle, bool cancel) = 0;
  // One output of it need not go on.
  virtual void CancelOutput(uint64_t handle, uint32_t output) = 0;
  virtual void Pause(uint64_t handle) = 0;
  virtual void Resume(uint64_t handle) = 0;
};

}  // namespace tandem
