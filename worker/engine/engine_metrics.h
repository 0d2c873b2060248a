#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/metric_list.h"
#include "kvstore/handoff/handoff.h"
#include "worker/engine/output.h"

namespace tandem {

enum class SequenceEnd : uint8_t { kStop, kLength, kTimeLimit, kCancelled, kHandedOff, kError };

inline SequenceEnd EndOf(const SequenceFinish& finish) {
  return finish.reason == FinishReason::kStop ? SequenceEnd::kStop : SequenceEnd::kLength;
}

// The engine's share of the worker's metrics, with the handles looked up once.
//   threads the engine's
class EngineMetrics {
 public:
  EngineMetrics(const WorkerMetrics& metrics, const std::string& model, const KvLayout& layout,
                uint32_t blocks);

  void OnStep(absl::Duration took, uint32_t prompt_rows, uint32_t decode_rows) const;
  void OnGenerated() const { generated_tokens_.Add(); }
  void OnEnd(SequenceEnd end) const;
  void OnPrefix(uint32_t tokens_looked_for, uint32_t tokens_found) const;
  void OnPreempted() const { preemptions_.Add(); }
  // A preempted one is admitted again, and so many of the tokens that it lost were not kept.
  void OnRecompute(uint32_t tokens) const { recomputed_tokens_.Add(tokens); }
  void OnEvicted(uint64_t blocks) const { prefix_evictions_.Add(static_cast<double>(blocks)); }
  void OnSent(const absl::StatusOr<HandoffSent>& sent) const;
  // `took`: since the receiver was told to expect it.
  void OnReceived(const absl::StatusOr<HandoffReceived>& received, absl::Duration took) const;
  void OnLoad(const EngineLoad& load) const;

 private:
  const Gauge waiting_, running_, kv_usage_, blocks_free_, blocks_filling_, blocks_ready_;
  const Histogram step_duration_, step_tokens_;
  const Counter prompt_tokens_, generated_tokens_;
  const Counter stop_, length_, time_limit_, cancelled_, handed_off_, error_;
  const Counter preemptions_, recomputed_tokens_;
  const Counter prefix_queries_, prefix_hits_, prefix_evictions_;
  const MetricFamily<Counter> handoffs_;
  const MetricFamily<Counter> handoff_bytes_;
  const MetricFamily<Histogram> handoff_duration_;
};

}  // namespace tandem
