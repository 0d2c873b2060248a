#pragma once
#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <deque>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "kvstore/handoff/messages.h"
#include "kvstore/handoff/receiver.h"
#include "tandem/kv/v1/kv.pb.h"

namespace tandem {

// The streams that have not named a link yet. Links are few and have a limit of their own; anybody
// can open a stream.
//   threads any
class UnlinkedStreams {
 public:
  struct Options {
    uint32_t max = 64;                          // at once; one more ends with Unavailable
    absl::Duration timeout = absl::Seconds(5);  // from a stream's start to its `open`
  };
  explicit UnlinkedStreams(const Options& options) : options_(options) {}
  // Unavailable when there are too many; else Leave follows.
  absl::Status Enter();
  void Leave() { --count_; }
  absl::Duration timeout() const { return options_.timeout; }

 private:
  const Options options_;
  std::atomic<uint32_t> count_{0};
};

// The receiver's end of one link's control stream.
//   life    shared: gRPC's share is self_, dropped in OnDone; the receiver's is the channel that it
//           was given. Neither can free it under the other
//   threads gRPC calls the reactions, the receiver's courier Send and Close; mu_ guards what both
//           touch and is never held across a call out
//   order   one write in flight; what comes meanwhile waits, at most kMaxPending messages: a peer
//           that reads no faster loses its link
//   errors  Unavailable no link was named in time, or too many streams have none; InvalidArgument a
//           message that a peer must not send
class HandoffStream final
    : public grpc::ServerBidiReactor<kv::v1::HandoffRequest, kv::v1::HandoffResponse>,
      public ControlChannel<ToSender> {
 public:
  // Both outlive the stream.
  static HandoffStream* Start(Receiver* receiver, UnlinkedStreams* unlinked,
                              grpc::CallbackServerContext* context);

  void Send(ToSender message) override;
  void Close(const absl::Status& why) override;

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  HandoffStream(Receiver* receiver, grpc::CallbackServerContext* context)
      : receiver_(receiver), context_(context) {}

  absl::Status Take();  // request_
  void LeaveUnlinked();
  void Queue(kv::v1::HandoffResponse response) ABSL_LOCKS_EXCLUDED(mu_);
  void EndWith(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);
  void Pump() ABSL_LOCKS_EXCLUDED(mu_);

  static constexpr size_t kMaxPending = 8192;

  Receiver* const receiver_;
  grpc::CallbackServerContext* const context_;
  std::shared_ptr<HandoffStream> self_;
  kv::v1::HandoffRequest request_;       // the reader's
  kv::v1::HandoffResponse response_;     // gRPC's while busy_
  std::optional<LinkName> link_;         // the reader's; set once attached
  UnlinkedStreams* unlinked_ = nullptr;  // the reader's; set while it counts this stream
  grpc::Alarm late_;                     // no link was named

  Mutex mu_;
  std::deque<kv::v1::HandoffResponse> pending_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mu_);
  bool busy_ ABSL_GUARDED_BY(mu_) = false;  // writing, or finished
  bool cancelling_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem
