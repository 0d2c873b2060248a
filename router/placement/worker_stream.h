#pragma once
#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "tandem/worker/v1/worker.grpc.pb.h"

namespace tandem {

// One connection of a worker session: a bidirectional stream, from its start to its end.
//   life    shared: gRPC's share is self_, from Create to OnDone, which Close() leads to
//   order   messages leave in the order of Send, one write in flight
//   errors  Unavailable from Send once the stream is closing, or when more than `max_queued_bytes`
//           wait because the worker does not read
//   threads any may call Send and Close. The listener is called by gRPC's threads, one call at a
//           time, and never with a lock held
class WorkerStream final
    : public grpc::ClientBidiReactor<worker::v1::SessionRequest, worker::v1::SessionResponse> {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void OnMessage(const WorkerStream* from,
                           const worker::v1::SessionResponse& message) = 0;
    // Once, and last.
    virtual void OnEnd(const WorkerStream* from, absl::Status why) = 0;
  };

  // `max_queued_bytes` is what may wait to be written.
  static std::shared_ptr<WorkerStream> Create(size_t max_queued_bytes,
                                              std::shared_ptr<Listener> listener);
  // Once: calls the worker and sends `hello`. What Send got before follows it. After Close the
  // stream ends at once.
  void Begin(worker::v1::WorkerService::Stub* stub, worker::v1::SessionRequest hello)
      ABSL_LOCKS_EXCLUDED(mu_);

  absl::Status Send(worker::v1::SessionRequest message) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the stream now; what was queued is dropped. May be called again.
  void Close() ABSL_LOCKS_EXCLUDED(mu_);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  WorkerStream(size_t max_queued_bytes, std::shared_ptr<Listener> listener)
      : max_queued_bytes_(max_queued_bytes), listener_(std::move(listener)) {}
  // Nothing is sent from here on. Gives gRPC's hold back, unless a write is in flight: then its
  // OnWriteDone does.
  void StopWriting() ABSL_LOCKS_EXCLUDED(mu_);

  const size_t max_queued_bytes_;
  const std::shared_ptr<Listener> listener_;
  std::shared_ptr<WorkerStream> self_;  // set by Create, dropped in OnDone
  grpc::ClientContext context_;
  worker::v1::SessionResponse read_;    // gRPC's between StartRead and OnReadDone
  worker::v1::SessionRequest writing_;  // gRPC's while busy_

  Mutex mu_;
  std::deque<worker::v1::SessionRequest> queue_ ABSL_GUARDED_BY(mu_);
  size_t queued_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool busy_ ABSL_GUARDED_BY(mu_) = true;     // a write is in flight; at first, the hello's
  bool closed_ ABSL_GUARDED_BY(mu_) = false;  // the hold is given back, or will be after the write
};

}  // namespace tandem
