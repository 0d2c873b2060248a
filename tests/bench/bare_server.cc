#include "tests/bench/bare_server.h"

#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "tandem/inference/v1/inference.grpc.pb.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

class Stream final : public grpc::ServerWriteReactor<iv1::GenerateResponse> {
 public:
  Stream(std::string request_id, uint32_t tokens) : left_(tokens) {
    message_.mutable_start()->set_request_id(std::move(request_id));
  }

  // Writes the next token, unless the last one is still on its way. True while there is more.
  bool Next() {
    MutexLock lock(&mu_);
    if (writing_ || done_) return !done_;
    writing_ = true;
    iv1::OutputDelta* delta = message_.add_outputs();
    delta->set_text("word");
    delta->add_token_ids(7);
    if (--left_ == 0) {
      delta->mutable_finish()->set_reason(iv1::FINISH_REASON_LENGTH);
      message_.mutable_end()->mutable_usage()->set_completion_tokens(1);
      done_ = true;
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(&message_);
    }
    return !done_;
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    message_.Clear();
    if (ok || std::exchange(done_, true)) return;
    Finish(grpc::Status::CANCELLED);
  }
  void OnDone() override;

 private:
  Mutex mu_;
  iv1::GenerateResponse message_;
  uint32_t left_;
  bool writing_ = false, done_ = false;
};

// All streams, and the thread that has them write.
class Streams {
 public:
  static Streams& Get() {
    static auto* const streams = new Streams;
    return *streams;
  }
  void Add(Stream* stream) {
    MutexLock lock(&mu_);
    streams_.insert(stream);
  }
  void Remove(Stream* stream) {
    MutexLock lock(&mu_);
    streams_.erase(stream);
  }
  [[noreturn]] void Run(absl::Duration interval) {
    for (absl::Time next = absl::Now();; next += interval) {
      absl::SleepFor(next - absl::Now());
      MutexLock lock(&mu_);
      for (auto at = streams_.begin(); at != streams_.end();) {
        at = (*at)->Next() ? std::next(at) : streams_.erase(at);
      }
    }
  }

 private:
  Mutex mu_;
  std::unordered_set<Stream*> streams_;
};

void Stream::OnDone() {
  Streams::Get().Remove(this);
  delete this;
}

class BareService final : public iv1::InferenceService::CallbackService {
 public:
  grpc::ServerWriteReactor<iv1::GenerateResponse>* Generate(
      grpc::CallbackServerContext*, const iv1::GenerateRequest* request) override {
    auto* const stream = new Stream(request->request_id(), request->stopping().max_tokens());
    Streams::Get().Add(stream);
    return stream;
  }
};

[[noreturn]] void Serve(absl::Duration interval, int port_to) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  BareService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(16 << 20);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (write(port_to, &port, sizeof(port)) != sizeof(port)) std::abort();
  Streams::Get().Run(interval);
}

}  // namespace

BareServer ForkBareServer(absl::Duration interval) {
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  BareServer out;
  out.pid = fork();
  if (out.pid == 0) Serve(interval, ends[1]);
  int port = 0;
  if (out.pid < 0 || read(ends[0], &port, sizeof(port)) != sizeof(port)) std::abort();
  out.endpoint = absl::StrCat("127.0.0.1:", port);
  return out;
}

}  // namespace tandem
