#pragma once
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/queue.h"
#include "base/silence.h"
#include "tandem/worker/v1/worker.pb.h"
#include "worker/engine/engine.h"
#include "worker/service/outbox.h"
#include "worker/service/request_check.h"

namespace tandem {

inline constexpr uint32_t kWorkerProtocolVersion = 1;

class Session;

// Sessions to which the engine has told something; each is in it once at most.
using SessionsToWrite = BoundedQueue<std::shared_ptr<Session>>;

// What all sessions of a worker share.
struct SessionParts {
  Engine* engine = nullptr;
  const Clock* clock = nullptr;
  RequestLimits limits;
  worker::v1::WorkerInfo info;                      // the worker's hello
  absl::Duration hello_timeout = absl::Seconds(5);  // from the stream's start
  // How long an ended stream's last write may take before the stream is cancelled.
  absl::Duration end_timeout = absl::Seconds(5);
  Silence::Options silence;  // after which a router is taken for dead
  // A router said hello: its earlier session, if there is one, is over.
  std::function<void(const Session* by, const worker::v1::RouterHello& hello)> on_hello =
      [](const Session*, const worker::v1::RouterHello&) {};
  // Whoever takes a session out of it calls its Write().
  std::shared_ptr<SessionsToWrite> to_write;
};

// One router's stream: checks and passes on what the router says, and writes what the engine tells.
//   life    shared: gRPC's share is self_, dropped in OnDone; the engine's is its sink. When the
//           stream ends, however it does, the engine's session is closed and its sequences with it
//   threads the engine calls the sink, gRPC its reactions, the heartbeat thread Beat and Watch; mu_
//           guards what they share and is never held across a call out. What the engine tells is
//           sent by another thread (SessionParts::to_write): sending takes gRPC 0.1 ms and may cost
//           the caller its core, which the next step needs
//   order   one write in flight; what comes meanwhile gathers in the outbox. A router that does not
//           read stops its own sequences (congested), and one that only writes is not read from
class Session final
    : public grpc::ServerBidiReactor<worker::v1::SessionRequest, worker::v1::SessionResponse>,
      public StepSink,
      public std::enable_shared_from_this<Session> {
 public:
  Session(const SessionParts* parts, grpc::CallbackServerContext* context)
      : parts_(parts),
        to_write_(parts->to_write),
        context_(context),
        began_(parts->clock->Now()),
        silence_(parts->silence, began_) {}
  // Takes gRPC's share, and begins to read if `admitted` is OK; else the stream ends with it.
  void Begin(const absl::Status& admitted, std::function<void()> on_done);

  // Sends what the engine has told, as far as that is possible now.
  void Write() ABSL_LOCKS_EXCLUDED(mu_);
  // Queues a heartbeat, once the hellos are exchanged.
  void Beat() ABSL_LOCKS_EXCLUDED(mu_);
  // Looks after the timeouts; a few times per interval of SessionParts::silence.
  void Watch() ABSL_LOCKS_EXCLUDED(mu_);
  // Whether `hello` is of the router that this session is of.
  bool IsOf(const worker::v1::RouterHello& hello) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the stream with this status once all that it has to say is written.
  void Close(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the stream with this status at once. Only the first call counts.
  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void OnAccepted(uint64_t handle, uint32_t cached_tokens) override;
  void OnRefused(uint64_t handle, const absl::Status& status) override;
  void OnStep(StepOutput output) override;
  void OnLoad(const EngineLoad& load) override;
  bool congested() const override { return congested_; }

 private:
  absl::Status Handle(const worker::v1::SessionRequest& request) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Hello(const worker::v1::RouterHello& hello) ABSL_LOCKS_EXCLUDED(mu_);
  void Submit(const worker::v1::Submit& submit) ABSL_LOCKS_EXCLUDED(mu_);
  void Reply(worker::v1::SessionResponse message) ABSL_LOCKS_EXCLUDED(mu_);
  void ReadNext() ABSL_LOCKS_EXCLUDED(mu_);
  // Sees to it that Write() is called.
  void WriteSoon() ABSL_LOCKS_EXCLUDED(mu_);
  // Starts the next write, the next read or the end, as far as each is possible now.
  void Pump() ABSL_LOCKS_EXCLUDED(mu_);
  bool UpdateCongestion() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const SessionParts* const parts_;
  const std::shared_ptr<SessionsToWrite> to_write_;  // the engine may tell when parts_ are gone
  grpc::CallbackServerContext* const context_;       // lives until Finish
  const absl::Time began_;
  std::shared_ptr<Session> self_;  // gRPC's share
  std::function<void()> on_done_;

  worker::v1::SessionRequest request_;  // gRPC's while a read is started, else the reader's
  worker::v1::SessionResponse reply_;   // gRPC's while writing_
  std::atomic<bool> congested_{false};

  Mutex mu_;
  Outbox outbox_ ABSL_GUARDED_BY(mu_);
  worker::v1::RouterHello router_ ABSL_GUARDED_BY(mu_);     // its hello
  std::optional<SessionId> session_ ABSL_GUARDED_BY(mu_);   // set by the hello
  std::optional<absl::Status> close_ ABSL_GUARDED_BY(mu_);  // becomes end_ when all is written
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mu_);    // no write or read starts any more
  absl::Time ended_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  bool cancelling_ ABSL_GUARDED_BY(mu_) = false;  // Finish has to wait for it
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool to_be_written_ ABSL_GUARDED_BY(mu_) = false;  // it is in to_write_
  int starting_reads_ ABSL_GUARDED_BY(mu_) = 0;      // Finish has to wait for them
  bool read_waits_ ABSL_GUARDED_BY(mu_) = false;     // until replies are written
  // Of the router. While nothing is read from it, each message that it takes is a word.
  Silence silence_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem
