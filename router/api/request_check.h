#pragma once
#include <cstdint>

#include "absl/status/status.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// Checks all of a request that can be checked without its model.
//   errors  InvalidArgument with a BadRequest that lists every wrong field (the first 16) and what
//           is allowed; if none is wrong, Unimplemented that names the first field which asks for
//           something that Tandem does not do yet
absl::Status CheckRequest(const inference::v1::GenerateRequest& request);

// What depends on the model: token ids in the fields beside the prompt.
absl::Status CheckTokenIds(const inference::v1::GenerateRequest& request, uint32_t vocabulary);

}  // namespace tandem
