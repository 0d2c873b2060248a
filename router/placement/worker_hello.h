#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "router/placement/worker_facts.h"
#include "tandem/worker/v1/worker.pb.h"

namespace tandem {

inline constexpr uint32_t kWorkerProtocolVersion = 1;

// Checks a worker's hello and takes from it what the router needs; the result's state is kReady.
// FailedPrecondition names the first field that this router can't work with.
absl::StatusOr<WorkerFacts> ReadHello(const std::string& address,
                                      const worker::v1::WorkerInfo& hello);

}  // namespace tandem
