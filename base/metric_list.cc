#include "base/metric_list.h"

namespace tandem {
namespace {

// The bounds that dashboards made for vLLM expect, in seconds.
const std::vector<double>& FirstTokenBuckets() {
  static const auto* const buckets =
      new std::vector<double>{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                              1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
  return *buckets;
}

const std::vector<double>& TokenLatencyBuckets() {
  static const auto* const buckets =
      new std::vector<double>{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                              0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
  return *buckets;
}

const std::vector<double>& RequestBuckets() {
  static const auto* const buckets = new std::vector<double>{
      0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
  return *buckets;
}

const std::vector<double>& TokenCountBuckets() {
  static const auto* const buckets =
      new std::vector<double>{1,    2,    5,    10,    20,    50,    100,    200,    500,
                              1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000};
  return *buckets;
}

// Steps and handoffs on one machine take from tens of microseconds to seconds.
const std::vector<double>& StepBuckets() {
  static const auto* const buckets =
      new std::vector<double>{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                              0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};
  return *buckets;
}

// A mask takes microseconds; its limit is 20 ms.
const std::vector<double>& MaskBuckets() {
  static const auto* const buckets = new std::vector<double>{
      5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05};
  return *buckets;
}

}  // namespace

RouterMetrics::RouterMetrics(MetricRegistry* registry)
    : requests(registry->NewCounter(
          "tandem_requests_total",
          "Requests that ended, by the gRPC code they ended with. `model` is `unknown` where none "
          "is served by the name that was asked for.",
          {"model", "api", "code"})),
      request_duration(
          registry->NewHistogram("tandem_request_duration_seconds",
                                 "From the arrival of a request to its last message, in seconds.",
                                 {"model"}, RequestBuckets())),
      time_to_first_token(
          registry->NewHistogram("tandem_time_to_first_token_seconds",
                                 "From the arrival of a request to its first token, in seconds.",
                                 {"model"}, FirstTokenBuckets())),
      inter_token_latency(registry->NewHistogram("tandem_inter_token_latency_seconds",
                                                 "Between two tokens of one output, in seconds.",
                                                 {"model"}, TokenLatencyBuckets())),
      prompt_tokens(registry->NewHistogram("tandem_request_prompt_tokens",
                                           "Tokens of a request's prompt.", {"model"},
                                           TokenCountBuckets())),
      generated_tokens(registry->NewHistogram("tandem_request_generation_tokens",
                                              "Tokens of a request's outputs together.", {"model"},
                                              TokenCountBuckets())),
      tokens(registry->NewCounter(
          "tandem_tokens_total",
          "Tokens of requests that ended. `type` is input, cached (the part of input that was not "
          "computed again), output, or reasoning (the part of output).",
          {"model", "type"})),
      requests_inflight(
          registry->NewGauge("tandem_requests_inflight", "Requests that are being served.", {})
              .With({})),
      client_pauses(registry
                        ->NewCounter("tandem_client_pauses_total",
                                     "Requests paused because their client read too slowly.", {})
                        .With({})),
      slow_client_cancels(
          registry
              ->NewCounter("tandem_slow_client_cancels_total",
                           "Requests cancelled because they stayed paused for too long.", {})
              .With({})),
      token_conflicts(
          registry
              ->NewCounter("tandem_token_conflicts_total",
                           "Tokens that two workers reported differently for one place of one "
                           "output. Anything but 0 is a bug.",
                           {})
              .With({})),
      failed_attempts(registry->NewCounter(
          "tandem_failed_attempts_total",
          "Attempts of requests that a worker did not bring to an end. `reason` is lost (the "
          "worker "
          "died, fell silent or got stuck), refused, draining, unavailable, aborted, damaged, "
          "timeout or error.",
          {"reason"})),
      resumed_requests(
          registry
              ->NewCounter("tandem_resumed_requests_total",
                           "Times that a request went on elsewhere behind tokens that it had "
                           "already got.",
                           {})
              .With({})),
      quarantined_requests(
          registry
              ->NewCounter("tandem_quarantined_requests_total",
                           "Requests given up because workers died of them too often.", {})
              .With({})),
      workers(registry->NewGauge("tandem_workers",
                                 "Workers that the router knows. `state` is connected, draining, "
                                 "stuck (it speaks, but its "
                                 "engine does not move) or unreachable.",
                                 {"role", "state"})) {}

GatewayMetrics::GatewayMetrics(MetricRegistry* registry)
    : ledger_events(registry->NewCounter(
          "tandem_ledger_events_total",
          "Events that were written to the usage ledger. `kind` is admission, row, abandoned (a "
          "row for a request whose router died), or repeated (it was there already: sent again, "
          "or a row that came after its request was taken for abandoned).",
          {"kind"})),
      ledger_waiting(registry
                         ->NewGauge("tandem_ledger_waiting",
                                    "Events of the usage ledger that wait to be written.", {})
                         .With({})),
      ledger_duration(registry
                          ->NewHistogram("tandem_ledger_seconds",
                                         "How long one write to the usage ledger took, of all "
                                         "events that waited for it, in seconds.",
                                         {}, StepBuckets())
                          .With({})) {}

WorkerMetrics::WorkerMetrics(MetricRegistry* registry)
    : requests_waiting(registry->NewGauge("tandem_worker_requests_waiting",
                                          "Requests that wait to be scheduled.", {"model"})),
      requests_running(registry->NewGauge("tandem_worker_requests_running",
                                          "Requests in the running batch.", {"model"})),
      kv_cache_usage(registry->NewGauge("tandem_worker_kv_cache_usage_ratio",
                                        "Share of the KV blocks in use, from 0 to 1. Blocks that "
                                        "are only cached are not in use.",
                                        {"model"})),
      kv_blocks(registry->NewGauge("tandem_worker_kv_blocks",
                                   "KV blocks by state: free, filling (of one request), or "
                                   "ready (full and cached, in use or not).",
                                   {"model", "state"})),
      cache_config(registry->NewGauge(
          "vllm:cache_config_info",
          "Tokens of a KV block and the number of blocks, as labels; the value is 1.",
          {"block_size", "num_gpu_blocks"})),
      step_duration(registry->NewHistogram("tandem_worker_step_duration_seconds",
                                           "How long an engine step took, in seconds.", {"model"},
                                           StepBuckets())),
      step_tokens(registry->NewHistogram("tandem_worker_step_tokens",
                                         "Tokens computed in an engine step.", {"model"},
                                         TokenCountBuckets())),
      tokens(registry->NewCounter("tandem_worker_tokens_total",
                                  "Tokens computed. `type` is prompt or generated.",
                                  {"model", "type"})),
      sequences(registry->NewCounter("tandem_worker_sequences_total",
                                     "Outputs that ended here. `finish_reason` is stop, length, "
                                     "time_limit, cancelled, handed_off or error.",
                                     {"model", "finish_reason"})),
      preemptions(registry->NewCounter("tandem_worker_preemptions_total",
                                       "Sequences that lost their blocks and were put back in the "
                                       "queue.",
                                       {"model"})),
      recomputed_tokens(registry->NewCounter(
          "tandem_worker_recomputed_tokens_total",
          "Tokens that preempted sequences lost and that were computed again. What they found in "
          "the prefix cache is not counted.",
          {"model"})),
      prefix_queries(registry->NewCounter(
          "tandem_worker_prefix_cache_queries_total",
          "Tokens, in whole blocks, that admitted requests looked for in the prefix cache.",
          {"model"})),
      prefix_hits(registry->NewCounter("tandem_worker_prefix_cache_hits_total",
                                       "Tokens that they found there, and that were not computed.",
                                       {"model"})),
      prefix_evictions(registry->NewCounter("tandem_worker_prefix_cache_evictions_total",
                                            "Blocks that left the prefix cache to make room.",
                                            {"model"})),
      grammars(registry->NewCounter("tandem_worker_grammars_total",
                                    "Grammars of guided requests. `outcome` is compiled, reused "
                                    "or failed.",
                                    {"model", "outcome"})),
      grammar_compile(registry->NewHistogram("tandem_worker_grammar_compile_duration_seconds",
                                             "How long compiling a grammar took, in seconds.",
                                             {"model"}, StepBuckets())),
      grammar_mask(registry->NewHistogram(
          "tandem_worker_grammar_mask_duration_seconds",
          "How long it took to find the tokens that a grammar allows next, in seconds.", {"model"},
          MaskBuckets())),
      handoffs(registry->NewCounter(
          "tandem_handoffs_total",
          "Requests whose KV moved between workers. `direction` is sent or received; `outcome` is "
          "complete, refused (layouts differ), unavailable (no link, no room, or it broke), "
          "aborted, "
          "timeout, damaged or failed.",
          {"direction", "outcome"})),
      handoff_bytes(registry->NewCounter("tandem_handoff_bytes_total",
                                         "KV bytes moved between workers. `transport` is shm or "
                                         "tcp, of the link that they took.",
                                         {"direction", "transport"})),
      handoff_duration(registry->NewHistogram(
          "tandem_handoff_duration_seconds",
          "From the reservation of the blocks to the end of the handoff, in seconds.",
          {"direction", "transport"}, StepBuckets())),
      handoff_phase(registry->NewHistogram("tandem_handoff_phase_seconds",
                                           "How long a sender's handoffs were in each of their "
                                           "phases, in seconds. `phase` is linking, "
                                           "reserving (until the decode worker has room), pushing "
                                           "(from then to the prompt's end) or "
                                           "completing (until all of it is confirmed).",
                                           {"phase"}, StepBuckets())),
      leases_expired(registry
                         ->NewCounter("tandem_leases_expired_total",
                                      "Reservations that ended because their sender did not renew "
                                      "them.",
                                      {})
                         .With({})),
      links(registry->NewGauge("tandem_links", "Other workers that this one is linked with.", {})
                .With({})),
      sessions(registry->NewGauge("tandem_worker_sessions", "Routers that are connected.", {})
                   .With({})) {
  registry->NewAlias("vllm:num_requests_waiting", "tandem_worker_requests_waiting");
  registry->NewAlias("vllm:num_requests_running", "tandem_worker_requests_running");
  registry->NewAlias("vllm:kv_cache_usage_perc", "tandem_worker_kv_cache_usage_ratio");
}

MetricFamily<Gauge> DeclareCertificateExpiry(MetricRegistry* registry) {
  return registry->NewGauge(
      "tandem_tls_certificate_expiry_seconds",
      "When the certificate that a section of the configuration names ends, in seconds since "
      "1970-01-01 00:00 UTC.",
      {"section"});
}

void DeclareBuildInfo(MetricRegistry* registry, const std::string& process) {
  registry
      ->NewGauge("tandem_build_info", "The version that runs, as a label; the value is 1.",
                 {"process", "version"})
      .With({process, TANDEM_VERSION})
      .Set(1);
}

}  // namespace tandem
