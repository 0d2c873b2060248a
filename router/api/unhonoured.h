#pragma once
#include "absl/status/status.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// Unimplemented, naming the first field that asks for something which Tandem does not do yet. What
// is in the contract but not done is refused, never ignored.
absl::Status CheckHonoured(const inference::v1::GenerateRequest& request);
absl::Status CheckHonoured(const inference::v1::ChatInput& chat);

}  // namespace tandem
