#pragma once
#include "absl/status/statusor.h"
#include "worker/model/gguf.h"
#include "worker/model/spec.h"

namespace tandem {

// The spec in a GGUF file's metadata and, for what the metadata lacks (biases, a tied head, llama3
// frequencies), in which tensors it has. Errors as ParseHfConfig's, naming the metadata key.
absl::StatusOr<ModelSpec> ParseGgufConfig(const Gguf& gguf);

}  // namespace tandem
