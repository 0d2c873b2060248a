#include "worker/engine/engine_metrics.h"

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

absl::string_view OutcomeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return "complete";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kFailedPrecondition:
      return "refused";
    case absl::StatusCode::kDeadlineExceeded:
      return "timeout";
    case absl::StatusCode::kDataLoss:
      return "damaged";
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
      return "aborted";
    default:
      return "failed";
  }
}

}  // namespace

EngineMetrics::EngineMetrics(const WorkerMetrics& metrics, const std::string& model,
                             const KvLayout& layout, uint32_t blocks)
    : waiting_(metrics.requests_waiting.With({model})),
      running_(metrics.requests_running.With({model})),
      kv_usage_(metrics.kv_cache_usage.With({model})),
      blocks_free_(metrics.kv_blocks.With({model, "free"})),
      blocks_filling_(metrics.kv_blocks.With({model, "filling"})),
      blocks_ready_(metrics.kv_blocks.With({model, "ready"})),
      step_duration_(metrics.step_duration.With({model})),
      step_tokens_(metrics.step_tokens.With({model})),
      prompt_tokens_(metrics.tokens.With({model, "prompt"})),
      generated_tokens_(metrics.tokens.With({model, "generated"})),
      stop_(metrics.sequences.With({model, "stop"})),
      length_(metrics.sequences.With({model, "length"})),
      time_limit_(metrics.sequences.With({model, "time_limit"})),
      cancelled_(metrics.sequences.With({model, "cancelled"})),
      handed_off_(metrics.sequences.With({model, "handed_off"})),
      error_(metrics.sequences.With({model, "error"})),
      preemptions_(metrics.preemptions.With({model})),
      recomputed_tokens_(metrics.recomputed_tokens.With({model})),
      prefix_queries_(metrics.prefix_queries.With({model})),
      prefix_hits_(metrics.prefix_hits.With({model})),
      prefix_evictions_(metrics.prefix_evictions.With({model})),
      handoffs_(metrics.handoffs),
      handoff_bytes_(metrics.handoff_bytes),
      handoff_duration_(metrics.handoff_duration) {
  metrics.cache_config.With({absl::StrCat(layout.block_tokens), absl::StrCat(blocks)}).Set(1);
}

void EngineMetrics::OnStep(absl::Duration took, uint32_t prompt_rows, uint32_t decode_rows) const {
  step_duration_.Observe(took);
  step_tokens_.Observe(prompt_rows + decode_rows);
  prompt_tokens_.Add(prompt_rows);
}

void EngineMetrics::OnEnd(SequenceEnd end) const {
  switch (end) {
    case SequenceEnd::kStop:
      return stop_.Add();
    case SequenceEnd::kLength:
      return length_.Add();
    case SequenceEnd::kTimeLimit:
      return time_limit_.Add();
    case SequenceEnd::kCancelled:
      return cancelled_.Add();
    case SequenceEnd::kHandedOff:
      return handed_off_.Add();
    case SequenceEnd::kError:
      return error_.Add();
  }
}

void EngineMetrics::OnPrefix(uint32_t tokens_looked_for, uint32_t tokens_found) const {
  prefix_queries_.Add(tokens_looked_for);
  prefix_hits_.Add(tokens_found);
}

void EngineMetrics::OnSent(const absl::StatusOr<HandoffSent>& sent) const {
  handoffs_.With({"sent", OutcomeOf(sent.status())}).Add();
  if (!sent.ok()) return;
  handoff_bytes_.With({"sent", sent->transport}).Add(static_cast<double>(sent->bytes));
  handoff_duration_.With({"sent", sent->transport}).Observe(sent->duration);
}

void EngineMetrics::OnReceived(const absl::StatusOr<HandoffReceived>& received,
                               absl::Duration took) const {
  handoffs_.With({"received", OutcomeOf(received.status())}).Add();
  if (!received.ok()) return;
  const std::string& transport = received->transport;
  handoff_bytes_.With({"received", transport}).Add(static_cast<double>(received->bytes));
  handoff_duration_.With({"received", transport}).Observe(took);
}

void EngineMetrics::OnLoad(const EngineLoad& load) const {
  waiting_.Set(load.waiting);
  running_.Set(load.running);
  const uint32_t free = load.blocks_free - load.blocks_unused;
  blocks_free_.Set(free);
  blocks_ready_.Set(load.blocks_ready);
  blocks_filling_.Set(load.blocks_total - free - load.blocks_ready);
  kv_usage_.Set(1.0 - static_cast<double>(load.blocks_free) / load.blocks_total);
}

}  // namespace tandem
