#pragma once
#include <string>

#include "base/metric_list.h"

namespace tandem {

// The grammars' share of the worker's metrics, with the handles looked up once. Any thread.
struct GuideMetrics {
  GuideMetrics(const WorkerMetrics& metrics, const std::string& model)
      : compiled(metrics.grammars.With({model, "compiled"})),
        reused(metrics.grammars.With({model, "reused"})),
        failed(metrics.grammars.With({model, "failed"})),
        compile(metrics.grammar_compile.With({model})),
        mask(metrics.grammar_mask.With({model})) {}

  const Counter compiled, reused, failed;
  const Histogram compile, mask;
};

}  // namespace tandem
