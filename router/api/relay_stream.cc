#include "router/api/relay_stream.h"

#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/grpc_deadline.h"
#include "base/mutex.h"
#include "router/api/error_map.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

// What the two kinds of answer share: the client's side of one relay.
//   life    shared: gRPC's share is self_, dropped in OnDone; the relay has one until then
class Client : public RelayReader, public std::enable_shared_from_this<Client> {
 public:
  Client(const ApiContext& api, grpc::CallbackServerContext* context, AnswerMode mode)
      : api_(api),
        mode_(mode),
        context_(context),
        deadline_(FromGrpcDeadline(context->raw_deadline())) {}

  void Start(const iv1::GenerateRequest& request) {
    self_ = shared_from_this();
    relay_ = StartGenerate(api_, request, deadline_, mode_);
    relay_->SetReader(self_);
    OnReady();  // what came before there was a reader
  }

  void Abandon() override {
    MutexLock lock(&context_mu_);
    if (context_ != nullptr) context_->TryCancel();
  }

 protected:
  void Cancelled() { relay_->Fail(ClientGone(RealClock()->Now() >= deadline_)); }
  void Done() {
    const std::shared_ptr<Client> last = std::move(self_);
    {
      MutexLock lock(&context_mu_);
      context_ = nullptr;
    }
    relay_->SetReader(nullptr);
    api_.calls->Remove(relay_.get());
  }
  Relay* relay() { return relay_.get(); }
  // Once, right before the client can see its call's end: a scrape after that has counted it.
  grpc::Status End(const absl::Status& status) const {
    CountGenerate(api_, *relay_, mode_);
    return ToClient(status, relay_->request_id());
  }

 private:
  const ApiContext api_;
  const AnswerMode mode_;
  std::shared_ptr<Client> self_;
  std::shared_ptr<Relay> relay_;
  // Held while the context is cancelled, which only a timer's thread does, so that gRPC can't free
  // it meanwhile.
  Mutex context_mu_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(context_mu_);
  const absl::Time deadline_;
};

class RelayStream final : public grpc::ServerWriteReactor<iv1::GenerateResponse>, public Client {
 public:
  RelayStream(const ApiContext& api, grpc::CallbackServerContext* context)
      : Client(api, context, AnswerMode::kStream) {}

  void OnReady() override { Pump(); }
  // A write that failed means a client that is gone, which OnCancel tells the relay.
  void OnWriteDone(bool /*ok*/) override {
    Release();
    Pump();
  }
  void OnCancel() override { Cancelled(); }
  void OnDone() override { Done(); }

 private:
  void Pump() {
    while (Acquire()) {
      std::optional<Relay::Chunk> chunk = relay()->Take(/*whole=*/false);
      if (chunk) return Write(*std::move(chunk));
      if (!Release()) return;
    }
  }

  void Write(Relay::Chunk chunk) {
    reply_ = std::move(chunk.message);
    if (!chunk.end) return StartWrite(&reply_);
    // busy_ stays set: nothing may follow.
    if (!chunk.has_message) return Finish(End(*chunk.end));
    StartWriteAndFinish(&reply_, grpc::WriteOptions(), End(*chunk.end));
  }

  bool Acquire() {
    MutexLock lock(&mu_);
    again_ = busy_;
    return !std::exchange(busy_, true);
  }
  // True when something may have become ready meanwhile, whose Pump found the stream busy.
  bool Release() {
    MutexLock lock(&mu_);
    busy_ = false;
    return std::exchange(again_, false);
  }

  Mutex mu_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;   // writing, or finished, or about to
  bool again_ ABSL_GUARDED_BY(mu_) = false;  // a Pump came while busy
  iv1::GenerateResponse reply_;              // whoever set busy_ has it, then gRPC
};

class RelayOnce final : public grpc::ServerUnaryReactor, public Client {
 public:
  RelayOnce(const ApiContext& api, grpc::CallbackServerContext* context,
            iv1::GenerateResponse* response)
      : Client(api, context, AnswerMode::kWhole), response_(response) {}

  void OnReady() override {
    std::optional<Relay::Chunk> chunk = relay()->Take(/*whole=*/true);  // once, by one thread
    if (!chunk) return;
    if (chunk->end->ok()) *response_ = std::move(chunk->message);
    Finish(End(*chunk->end));
  }
  void OnCancel() override { Cancelled(); }
  void OnDone() override { Done(); }

 private:
  iv1::GenerateResponse* const response_;  // gRPC's, until Finish
};

}  // namespace

grpc::ServerWriteReactor<iv1::GenerateResponse>* StartRelayStream(
    const ApiContext& api, grpc::CallbackServerContext* context,
    const iv1::GenerateRequest& request) {
  auto stream = std::make_shared<RelayStream>(api, context);
  stream->Start(request);
  return stream.get();
}

grpc::ServerUnaryReactor* StartRelayOnce(const ApiContext& api,
                                         grpc::CallbackServerContext* context,
                                         const iv1::GenerateRequest& request,
                                         iv1::GenerateResponse* response) {
  auto once = std::make_shared<RelayOnce>(api, context, response);
  once->Start(request);
  return once.get();
}

}  // namespace tandem
