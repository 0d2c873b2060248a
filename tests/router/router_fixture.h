#pragma once
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "router/router.h"
#include "tandem/inference/v1/inference.grpc.pb.h"
#include "tests/support/fake_worker.h"
#include "tests/support/scratch_folder.h"

namespace tandem {

// What came of one call.
struct Answer {
  grpc::Status status;
  std::vector<inference::v1::GenerateResponse> messages;

  inference::v1::GenerateResponse Joined() const;  // as GenerateOnce would have answered
  std::string text() const { return Joined().outputs_size() > 0 ? Joined().outputs(0).text() : ""; }
};

// A streaming call that the test reads message by message.
class Call {
 public:
  Call(inference::v1::InferenceService::Stub* stub, const inference::v1::GenerateRequest& request,
       absl::Duration timeout);
  // The next message; fails the test when the stream has ended.
  inference::v1::GenerateResponse Next();
  Answer Rest();  // reads to the end
  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<inference::v1::GenerateResponse>> reader_;
};

// A router in this process, and a client of it.
class RouterFixture {
 public:
  struct Options {
    std::vector<std::string> workers;
    std::vector<std::string> sets;  // more settings, "limits.max_inflight=1"
    const Clock* clock = RealClock();
    size_t stream_window = 0;  // bytes that the client takes unread; 0: gRPC's choice
  };
  explicit RouterFixture(const Options& options);

  // Waits until so many workers are ready.
  void AwaitWorkers(uint32_t count);
  bool Await(const std::function<bool()>& condition);

  std::unique_ptr<Call> Generate(const inference::v1::GenerateRequest& request,
                                 absl::Duration timeout = absl::Seconds(30));
  Answer GenerateAll(const inference::v1::GenerateRequest& request);
  Answer GenerateOnce(const inference::v1::GenerateRequest& request);

  Router* router() { return router_.get(); }
  inference::v1::InferenceService::Stub* stub() { return stub_.get(); }
  std::shared_ptr<grpc::Channel> channel() { return channel_; }

 private:
  const ScratchFolder folder_;
  std::unique_ptr<Router> router_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<inference::v1::InferenceService::Stub> stub_;
};

// The reason that an error's ErrorInfo gives.
std::string ReasonOf(const grpc::Status& status);

// A text request with greedy sampling and token ids in the answer.
inference::v1::GenerateRequest TextRequest(const std::string& text, uint32_t max_tokens = 100);

}  // namespace tandem
