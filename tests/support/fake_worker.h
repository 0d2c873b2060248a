#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "tandem/worker/v1/worker.grpc.pb.h"

namespace tandem {

// Half a step message: which tokens a worker says it made. See FakeWorker::Send.
struct FakeTokens {
  uint32_t output = 0;
  uint32_t first_index = 0;
  std::vector<int32_t> ids;
  std::vector<float> logprobs;  // one a token, or none
  bool finish = false;
  inference::v1::FinishReason reason = inference::v1::FINISH_REASON_STOP;
  int32_t stop_token_id = -1;  // -1: none
  uint32_t cached_tokens = 0;
};

// A worker without a model, in this process: it says and does what the test tells it to.
//   life     serves from the constructor to the destructor; Stop() ends it before that
//   errors   a wait that takes longer than kPatience fails the test
//   threads  any
class FakeWorker final : public worker::v1::WorkerService::Service {
 public:
  struct Options {
    worker::v1::Role role = worker::v1::ROLE_UNIFIED;
    std::string model = "bytes";
    std::string kv_abi = "abi";
    std::string weights_digest = "weights";
    uint32_t max_context = 4096;
    uint32_t blocks = 1024;  // of 16 tokens
    uint32_t max_sequences = 64;
    uint32_t protocol_version = 1;
    bool heartbeats = true;  // every 20 ms
    std::string listen = "127.0.0.1:0";
    // Replaces or adds files; one with an empty text is left out.
    std::map<std::string, std::string> files;
    bool corrupt_assets = false;  // sends other bytes than it announced
    bool stall_assets = false;    // never answers who asks for files
  };
  static constexpr absl::Duration kPatience = absl::Seconds(20);

  explicit FakeWorker(Options options);
  ~FakeWorker() override;

  const std::string& address() const { return address_; }
  int asset_requests() const;

  // The next request that came and was not taken yet.
  worker::v1::Submit NextSubmit() ABSL_LOCKS_EXCLUDED(mu_);
  bool has_submit() const ABSL_LOCKS_EXCLUDED(mu_);  // NextSubmit would not wait
  // Whether the router has said so of this handle. The Await ones wait for it.
  bool AwaitCancel(uint64_t handle) { return Await(&FakeWorker::cancelled_, handle, 1); }
  bool AwaitCancelOutput(uint64_t handle, uint32_t output) ABSL_LOCKS_EXCLUDED(mu_);
  // Also content when the session has ended, which cancels all that was in it.
  bool AwaitCancelOrEnd(uint64_t handle) ABSL_LOCKS_EXCLUDED(mu_);
  bool AwaitPause(uint64_t handle, int times = 1) {
    return Await(&FakeWorker::paused_, handle, times);
  }
  bool AwaitResume(uint64_t handle, int times = 1) {
    return Await(&FakeWorker::resumed_, handle, times);
  }
  bool resumed(uint64_t handle) const ABSL_LOCKS_EXCLUDED(mu_);
  bool cancelled(uint64_t handle) const ABSL_LOCKS_EXCLUDED(mu_);
  bool paused(uint64_t handle) const ABSL_LOCKS_EXCLUDED(mu_);  // more often than resumed

  void Accept(uint64_t handle, uint32_t cached_tokens = 0);
  void Refuse(uint64_t handle, int code, const std::string& message);
  void RefuseAsDraining(uint64_t handle);
  void Send(uint64_t handle, const FakeTokens& tokens);
  void SendStep(worker::v1::SequenceStep step);  // of the submit's attempt unless it has one
  void SendHandoffDone(uint64_t handle, uint64_t kv_bytes);
  void SendError(uint64_t handle, int code, const std::string& message);
  void SendLoad(const worker::v1::Load& load);

  // Accepts each request by itself from now on, and produces `text` for it, a token a step.
  void AnswerAll(absl::string_view text) ABSL_LOCKS_EXCLUDED(mu_);
  void SetHeartbeats(bool on) ABSL_LOCKS_EXCLUDED(mu_);
  // What heartbeats say from now on; the first of them goes at once.
  void SetEngineAge(absl::Duration age) ABSL_LOCKS_EXCLUDED(mu_);
  bool AwaitSession() ABSL_LOCKS_EXCLUDED(mu_);                    // until a router is connected
  worker::v1::RouterHello hello() const ABSL_LOCKS_EXCLUDED(mu_);  // the last one
  int hellos() const ABSL_LOCKS_EXCLUDED(mu_);                     // since the start
  bool AwaitPings(int count) ABSL_LOCKS_EXCLUDED(mu_);             // since the start
  int pings() const ABSL_LOCKS_EXCLUDED(mu_);
  void EndSession() ABSL_LOCKS_EXCLUDED(mu_);  // breaks the stream, as a crash would
  void Stop();

 private:
  using Stream = grpc::ServerReaderWriter<worker::v1::SessionResponse, worker::v1::SessionRequest>;
  using Counts = std::map<uint64_t, int>;  // by handle

  grpc::Status Session(grpc::ServerContext* context, Stream* stream) override;
  grpc::Status GetAssets(grpc::ServerContext* context, const worker::v1::GetAssetsRequest* request,
                         grpc::ServerWriter<worker::v1::GetAssetsResponse>* writer) override;

  worker::v1::WorkerInfo Info() const;
  void Note(const worker::v1::SessionRequest& message) ABSL_LOCKS_EXCLUDED(mu_);
  void AnswerBy(const worker::v1::Submit& submit, const std::vector<int32_t>& ids);
  bool Await(Counts FakeWorker::* counts, uint64_t handle, int times) ABSL_LOCKS_EXCLUDED(mu_);
  bool AwaitUntil(const std::function<bool()>& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Write(const worker::v1::SessionResponse& message) ABSL_LOCKS_EXCLUDED(mu_);
  void Beat(const std::stop_token& stop);

  const Options options_;
  std::map<std::string, std::string> files_;
  std::string address_;

  mutable Mutex mu_;
  CondVar changed_;
  std::vector<worker::v1::Submit> submits_ ABSL_GUARDED_BY(mu_);
  Counts cancelled_, paused_, resumed_;  // guarded by mu_; cancelled_: all of it
  std::map<uint64_t, uint32_t> attempts_ ABSL_GUARDED_BY(mu_);  // by handle
  std::set<std::pair<uint64_t, uint32_t>> cancelled_outputs_ ABSL_GUARDED_BY(mu_);
  Stream* stream_ ABSL_GUARDED_BY(mu_) = nullptr;
  grpc::ServerContext* context_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool heartbeats_ ABSL_GUARDED_BY(mu_);
  worker::v1::SessionResponse beat_ ABSL_GUARDED_BY(mu_);
  bool answer_all_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<int32_t> answer_ ABSL_GUARDED_BY(mu_);
  int asset_requests_ ABSL_GUARDED_BY(mu_) = 0;
  worker::v1::RouterHello hello_ ABSL_GUARDED_BY(mu_);
  int hellos_ ABSL_GUARDED_BY(mu_) = 0;
  int pings_ ABSL_GUARDED_BY(mu_) = 0;

  std::unique_ptr<grpc::Server> server_;
  std::jthread beater_;
};

}  // namespace tandem
