#pragma once
#include <string>

#include "base/metric_list.h"
#include "router/api/relay.h"

namespace tandem {

// Enters one ended request into the metrics. `api` is the method that served it.
void CountRequest(const RouterMetrics& metrics, const std::string& api,
                  const RelayOutcome& outcome);

}  // namespace tandem
