#include "router/api/request_metrics.h"

namespace tandem {

void CountRequest(const RouterMetrics& metrics, const std::string& api,
                  const RelayOutcome& outcome) {
  const std::string model = outcome.model.empty() ? "unknown" : outcome.model;
  metrics.requests.With({model, api, absl::StatusCodeToString(outcome.status.code())}).Add();
  metrics.request_duration.With({model}).Observe(outcome.total);
  if (outcome.model.empty()) return;  // refused before it had a prompt
  metrics.prompt_tokens.With({model}).Observe(outcome.prompt_tokens);
  metrics.generated_tokens.With({model}).Observe(outcome.completion_tokens);
  metrics.tokens.With({model, "input"}).Add(outcome.prompt_tokens);
  metrics.tokens.With({model, "cached"}).Add(outcome.cached_tokens);
  metrics.tokens.With({model, "output"}).Add(outcome.completion_tokens);
  if (outcome.first_token) metrics.time_to_first_token.With({model}).Observe(*outcome.first_token);
}

}  // namespace tandem
