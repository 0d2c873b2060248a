#include "router/placement/worker_stream.h"

#include <string>
#include <utility>

#include "base/grpc_status.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

size_t QueueCost(const wv1::SessionRequest& message) { return message.ByteSizeLong() + 64; }

}  // namespace

std::shared_ptr<WorkerStream> WorkerStream::Create(size_t max_queued_bytes,
                                                   std::shared_ptr<Listener> listener) {
  std::shared_ptr<WorkerStream> stream(new WorkerStream(max_queued_bytes, std::move(listener)));
  stream->self_ = stream;
  return stream;
}

void WorkerStream::Begin(wv1::WorkerService::Stub* stub, wv1::SessionRequest hello) {
  writing_ = std::move(hello);
  stub->async()->Session(&context_, this);
  // Writes start from other threads than the reactor's own: the hold keeps the reactor alive for
  // them until StopWriting.
  AddHold();
  StartWrite(&writing_);
  StartRead(&read_);
  StartCall();
}

absl::Status WorkerStream::Send(wv1::SessionRequest message) {
  const size_t cost = QueueCost(message);
  {
    MutexLock lock(&mu_);
    if (closed_) return absl::UnavailableError("the session to the worker is closing");
    if (queued_bytes_ + cost > max_queued_bytes_) {
      return absl::UnavailableError("the worker does not read what is sent to it");
    }
    if (busy_) {
      queued_bytes_ += cost;
      queue_.push_back(std::move(message));
      return absl::OkStatus();
    }
    busy_ = true;
  }
  writing_ = std::move(message);
  StartWrite(&writing_);
  return absl::OkStatus();
}

void WorkerStream::OnWriteDone(bool ok) {
  bool more = false;
  {
    MutexLock lock(&mu_);
    more = ok && !closed_ && !queue_.empty();
    if (more) {
      writing_ = std::move(queue_.front());
      queue_.pop_front();
      queued_bytes_ -= QueueCost(writing_);
    } else {
      busy_ = false;
      if (!closed_) return;  // idle; after a failed write OnReadDone(false) comes and closes
    }
  }
  if (more) {
    StartWrite(&writing_);
  } else {
    RemoveHold();
  }
}

void WorkerStream::OnReadDone(bool ok) {
  if (!ok) {
    context_.TryCancel();  // so that a write in flight ends too
    StopWriting();
    return;
  }
  listener_->OnMessage(this, read_);
  StartRead(&read_);
}

void WorkerStream::StopWriting() {
  {
    MutexLock lock(&mu_);
    if (closed_) return;
    closed_ = true;
    queue_.clear();
    if (busy_) return;
  }
  RemoveHold();
}

void WorkerStream::Close() {
  context_.TryCancel();
  StopWriting();
}

void WorkerStream::OnDone(const grpc::Status& status) {
  const std::shared_ptr<WorkerStream> last = std::move(self_);
  listener_->OnEnd(this, status.ok() ? absl::UnavailableError("the worker ended the session")
                                     : absl::UnavailableError(FromGrpcStatus(status).message()));
}

}  // namespace tandem
