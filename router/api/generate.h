#pragma once
#include <memory>

#include "absl/time/time.h"
#include "base/metric_list.h"
#include "router/api/call_registry.h"
#include "router/api/model_catalog.h"
#include "router/api/relay.h"
#include "router/placement/pair_breaker.h"
#include "router/placement/worker_table.h"
#include "router/prompt/prompt_pool.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// What the calls of one router share. Not owned; outlives every call.
struct ApiContext {
  WorkerTable* workers = nullptr;
  ModelCatalog* models = nullptr;
  PromptPool* prompts = nullptr;
  CallRegistry* calls = nullptr;
  PairBreaker* pairs = nullptr;
  const RouterMetrics* metrics = nullptr;
  const Clock* clock = RealClock();
  size_t max_prompt_bytes = 8 << 20;
  uint32_t default_max_tokens = 1024;
  size_t client_buffer_bytes = 256 << 10;
  absl::Duration slow_client_timeout = absl::Seconds(30);
  FailoverOptions failover;
};

// How the client wants its answer.
enum class AnswerMode { kStream, kWhole };

// Takes a request in: checks it, finds its model, and starts the work on its prompt, after which it
// is sent to its workers. Returns the relay that its answer comes through; an error comes that way
// too, never otherwise.
//   deadline  the client's, in RealClock's time; InfiniteFuture without one
std::shared_ptr<Relay> StartGenerate(const ApiContext& api,
                                     const inference::v1::GenerateRequest& request,
                                     absl::Time deadline, AnswerMode mode);

// Counts a request that has ended.
void CountGenerate(const ApiContext& api, const Relay& relay, AnswerMode mode);

}  // namespace tandem
