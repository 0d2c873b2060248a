#pragma once
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tandem/worker/v1/worker.pb.h"
#include "worker/engine/request.h"

namespace tandem {

// What a worker can take: a request is checked against it before it gets to the engine.
struct RequestLimits {
  uint32_t max_context = 0;  // tokens of prompt and output together
  uint32_t vocabulary = 0;
  std::vector<int32_t> eos_ids;
  std::vector<Role> roles;  // that this worker plays
};

// A worker trusts no router: everything that a Submit says is checked here.
//   errors  InvalidArgument with a BadRequest that names every wrong field; then Unimplemented for
//           a field that this build does not honour (ErrorInfo FIELD_NOT_SUPPORTED);
//           FailedPrecondition for a role that this worker does not play
//   units   `now` is when the request arrived: budget_ms counts from there
absl::StatusOr<EngineRequest> CheckSubmit(const worker::v1::Submit& submit,
                                          const RequestLimits& limits, absl::Time now);

}  // namespace tandem
