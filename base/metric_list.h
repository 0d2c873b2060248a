#pragma once
#include <string>

#include "base/metrics.h"

// Every metric there is. Declared here once; names never change. docs/METRICS.md is made from it.
namespace tandem {

struct RouterMetrics {
  explicit RouterMetrics(MetricRegistry* registry);

  MetricFamily<Counter> requests;               // model, api, code
  MetricFamily<Histogram> request_duration;     // model
  MetricFamily<Histogram> time_to_first_token;  // model
  MetricFamily<Histogram> inter_token_latency;  // model
  MetricFamily<Histogram> prompt_tokens;        // model
  MetricFamily<Histogram> generated_tokens;     // model
  MetricFamily<Counter> tokens;                 // model, type
  Gauge requests_inflight;
  Counter client_pauses;
  Counter slow_client_cancels;
  Counter token_conflicts;
  MetricFamily<Counter> failed_attempts;  // reason
  Counter resumed_requests;
  Counter quarantined_requests;
  MetricFamily<Gauge> workers;  // role, state
};

// Of the router's keys, limits and usage ledger.
struct GatewayMetrics {
  explicit GatewayMetrics(MetricRegistry* registry);

  MetricFamily<Counter> ledger_events;  // kind
  Gauge ledger_waiting;
  Histogram ledger_duration;
};

struct WorkerMetrics {
  explicit WorkerMetrics(MetricRegistry* registry);

  MetricFamily<Gauge> requests_waiting;      // model
  MetricFamily<Gauge> requests_running;      // model
  MetricFamily<Gauge> kv_cache_usage;        // model; 0..1
  MetricFamily<Gauge> kv_blocks;             // model, state
  MetricFamily<Gauge> cache_config;          // block_size, num_gpu_blocks; always 1
  MetricFamily<Histogram> step_duration;     // model
  MetricFamily<Histogram> step_tokens;       // model
  MetricFamily<Counter> tokens;              // model, type
  MetricFamily<Counter> sequences;           // model, finish_reason
  MetricFamily<Counter> preemptions;         // model
  MetricFamily<Counter> recomputed_tokens;   // model
  MetricFamily<Counter> prefix_queries;      // model
  MetricFamily<Counter> prefix_hits;         // model
  MetricFamily<Counter> prefix_evictions;    // model
  MetricFamily<Counter> grammars;            // model, outcome
  MetricFamily<Histogram> grammar_compile;   // model
  MetricFamily<Histogram> grammar_mask;      // model
  MetricFamily<Counter> handoffs;            // direction, outcome
  MetricFamily<Counter> handoff_bytes;       // direction, transport
  MetricFamily<Histogram> handoff_duration;  // direction, transport
  MetricFamily<Histogram> handoff_phase;     // phase
  Counter leases_expired;
  Gauge links;
  Gauge sessions;
};

// `tandem_tls_certificate_expiry_seconds`, of every process.
MetricFamily<Gauge> DeclareCertificateExpiry(MetricRegistry* registry);

// `tandem_build_info`, of every process.
void DeclareBuildInfo(MetricRegistry* registry, const std::string& process);

}  // namespace tandem
