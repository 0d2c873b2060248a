#pragma once
#include <string>

#include "client/cli/flags.h"
#include "client/client.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem::cli {

// The flags that `generate` and `chat` share: where to ask, how to sample and when to stop.
class RequestFlags {
 public:
  void Declare(Flags* flags);

  const Client::Options& connection() const { return connection_; }
  // With what was given set, and no input.
  const inference::v1::GenerateRequest& request() const { return request_; }

 private:
  Client::Options connection_;
  inference::v1::GenerateRequest request_;
};

}  // namespace tandem::cli
