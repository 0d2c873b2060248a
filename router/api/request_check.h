#pragma once
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// Checks all of a request that can be checked without its model.
//   errors  InvalidArgument with a BadRequest that lists every wrong field (the first 16) and what
//           is allowed; if none is wrong, Unimplemented that names the first field which asks for
//           something that Tandem does not do yet
absl::Status CheckRequest(const inference::v1::GenerateRequest& request);

// The same of a request to tokenise: its chat is held to what Generate takes.
absl::Status CheckTokenize(const inference::v1::TokenizeRequest& request);

// Whether a client's id can be used: up to 128 printable ASCII characters. An empty one can't.
bool IsRequestId(const std::string& id);

// What depends on the model: token ids in the fields beside the prompt.
absl::Status CheckTokenIds(const inference::v1::GenerateRequest& request, uint32_t vocabulary);

}  // namespace tandem
