#pragma once
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// Hears of one request that Client::Begin has sent.
//   threads gRPC's, one call at a time; none may block
class GenerateListener {
 public:
  virtual ~GenerateListener() = default;
  virtual void OnResponse(const inference::v1::GenerateResponse& response) = 0;
  // Once, and last; OK where the answer is whole.
  virtual void OnEnd(const absl::Status& status) = 0;
};

// A connection to a Tandem router.
//   errors  those of the router, with their details (base/grpc_status.h: DetailOf); Unavailable
//           names the endpoint when nothing answers there, or TLS stands between the two sides.
//           InvalidArgument from Create for files that do not fit
//   threads any; each call but Begin blocks its own
class Client {
 public:
  struct Options {
    std::string endpoint = "127.0.0.1:9000";
    // PEM files. With `ca_file`, whose authorities the router's certificate has to come from, the
    // connection is TLS; a certificate of one's own is for routers that ask for it.
    std::string ca_file, cert_file, key_file;
    // The name that the router's certificate has to have; empty: the endpoint's host.
    std::string server_name;
    absl::Duration connect_timeout = absl::Seconds(10);  // also of the short calls, as a whole
  };
  // Takes one message of the answer; false cancels the request.
  using OnResponse = absl::FunctionRef<bool(const inference::v1::GenerateResponse&)>;

  // Connects with the first call.
  static absl::StatusOr<std::unique_ptr<Client>> Create(Options options);
  ~Client();

  // Calls `on_response` for each message in order, on the caller's thread, and returns when the
  // stream has ended: Cancelled if that was because `on_response` said so. A reader that takes its
  // time slows this stream and no other.
  absl::Status Generate(const inference::v1::GenerateRequest& request, OnResponse on_response);

  // Sends a request without waiting for anything, and returns what cancels it: to be called on any
  // thread at any time, also after the end. The request ends with DeadlineExceeded after `timeout`,
  // and at once with Unavailable where there is no connection.
  std::function<void()> Begin(inference::v1::GenerateRequest request, absl::Duration timeout,
                              std::unique_ptr<GenerateListener> listener);

  absl::StatusOr<inference::v1::ListModelsResponse> ListModels();

 private:
  struct Connection;
  Client(Options options, std::unique_ptr<Connection> connection);
  absl::Status WaitUntilConnected();
  absl::Status WhyNotConnected() const;

  const Options options_;
  const std::unique_ptr<Connection> connection_;
};

}  // namespace tandem
