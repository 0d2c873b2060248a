#pragma once
#include <string>

#include "absl/types/optional.h"
#include "client/cli/flags.h"
#include "client/client.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem::cli {

// The flags that `generate` and `chat` share: where to ask, and how to sample.
struct RequestFlags {
  Client::Options connection;
  std::string model;
  absl::optional<uint32_t> max_tokens;
  absl::optional<float> temperature;
  absl::optional<float> top_p;
  absl::optional<uint64_t> seed;
  absl::optional<uint32_t> n;

  void Declare(Flags* flags);
  // A request with what was given set, and no input.
  inference::v1::GenerateRequest Request() const;
};

}  // namespace tandem::cli
