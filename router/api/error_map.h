#pragma once
#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace tandem {

// What a client is told of an error. Adds what is missing: an ErrorInfo with the code's reason and
// the request's id, and RetryInfo where a retry may help. Text of INTERNAL errors stays in the log
// (this writes it there), since it is about our own parts.
// This file and its callers' status texts are the only ones that clients see.
grpc::Status ToClient(const absl::Status& status, const std::string& request_id);

// The errors of the router itself, with their reasons.
absl::Status WorkerLost(const absl::Status& why);            // WORKER_LOST, if it says no other
absl::Status TooManyRequests(size_t running, size_t limit);  // ROUTER_FULL
absl::Status TooManyBytes(size_t held, size_t more, size_t limit);  // ROUTER_FULL
absl::Status PromptQueueFull();                                     // ROUTER_FULL
absl::Status Stopping();                                            // STOPPING
absl::Status DuplicateRequest(const std::string& request_id);       // DUPLICATE_REQUEST
absl::Status SlowClient();                                          // SLOW_CLIENT
absl::Status ClientGone(bool deadline_passed);                      // DEADLINE_EXCEEDED, CANCELLED
absl::Status UnknownModel(const std::string& asked, const std::string& served);
absl::Status NoModelYet(const std::string& workers);  // NO_WORKER

}  // namespace tandem
