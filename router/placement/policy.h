#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "router/placement/worker_facts.h"

namespace tandem {

// Two workers of which one may hand over to the other, by their addresses.
struct WorkerPair {
  std::string prefill, decode;
  friend auto operator<=>(const WorkerPair&, const WorkerPair&) = default;
};

// The request as far as placement is concerned.
struct PlacementCall {
  std::string model;
  std::string revision;  // only workers with these weights may serve it
  uint32_t prompt_tokens = 0;
  uint32_t max_tokens = 0;  // of each output
  uint32_t outputs = 1;
  // Of a request that goes on where another worker left it: only the same arithmetic gives the same
  // tokens. Empty: any.
  std::string kv_abi;
  bool whole = false;                // one worker does both
  std::vector<std::string> avoid;    // addresses that are taken alone, where there is no other
  std::vector<std::string> exclude;  // addresses that are not taken
  std::vector<WorkerPair> apart;     // not taken together
};

// Indices into the views that Pick was given.
struct Placement {
  size_t decode = 0;              // or the worker that does both
  std::optional<size_t> prefill;  // another worker; absent: `decode` runs the prompt too
};

// Tokens of prompt and output together that each of so many outputs of a prompt may have on this
// worker. They share the blocks that are full of the prompt alone.
uint64_t Capacity(const WorkerFacts& facts, uint32_t prompt_tokens = 0, uint32_t outputs = 1);

// Chooses the workers of one request: the least loaded decode worker that has a prefill partner
// with an interchangeable KV cache, and the least loaded of these partners; where no such pair is,
// the least loaded single worker, one of role "unified" first. Pure: equal input, equal choice.
//   units   load is in predicted tokens
//   errors  InvalidArgument when every worker of the model is too small for the request, also those
//           that are away for now; Unavailable when none that is large enough is ready, naming each
//           worker and its state
absl::StatusOr<Placement> Pick(absl::Span<const WorkerView> workers, const PlacementCall& call);

// "10.0.0.1:9100 (prefill): lost, no heartbeat for 3s; ..." for error messages and logs; at most
// 16 workers are named.
std::string DescribeWorkers(absl::Span<const WorkerView> workers);

}  // namespace tandem
