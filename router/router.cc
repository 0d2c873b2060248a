#include "router/router.h"

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/certificate_expiry.h"
#include "base/grpc_channel.h"
#include "base/grpc_server.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/metric_list.h"
#include "base/mutex.h"
#include "base/observability.h"
#include "base/status.h"
#include "base/tls_config.h"
#include "router/api/call_registry.h"
#include "router/api/error_map.h"
#include "router/api/inference_service.h"
#include "router/api/model_catalog.h"
#include "router/gateway.h"
#include "router/placement/pair_breaker.h"
#include "router/placement/worker_table.h"
#include "router/prompt/prompt_pool.h"

namespace tandem {
namespace {

constexpr absl::Duration kCutOff = absl::Seconds(5);  // for answers that only have to be written
constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr size_t kMinBufferBytes = 64 << 20;     // of connections that carry next to nothing
constexpr size_t kMaxWorkerMessage = 128 << 20;  // prompt log-probabilities of a long prompt

absl::Duration ToAbsl(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

std::string StateLabel(WorkerState state) {
  if (state == WorkerState::kReady) return "connected";
  if (state == WorkerState::kStuck) return "stuck";
  return state == WorkerState::kDraining ? "draining" : "unreachable";
}

std::string RoleLabel(const WorkerFacts& facts) {
  if (facts.model.empty()) return "unknown";
  if (facts.role == WorkerRole::kPrefill) return "prefill";
  return facts.role == WorkerRole::kDecode ? "decode" : "unified";
}

// Prompts and answers do not cross a network in the clear, unless the configuration says so.
absl::Status CheckWayToWorkers(const config::v1::RouterConfig& config) {
  if (!config.worker_tls().ca_file().empty() || config.server().insecure()) {
    return absl::OkStatus();
  }
  for (absl::string_view target : config.workers()) {
    absl::ConsumePrefix(&target, "dns:///");
    const absl::StatusOr<HostPort> address = ParseHostPort(target);
    if (!address.ok() || IsLoopback(address->host)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("workers: ", target,
                     " is another machine, so the way to it needs TLS: set "
                     "worker_tls.ca_file, worker_tls.cert_file and worker_tls.key_file, or set "
                     "server.insecure to true on a network that you trust"));
  }
  return absl::OkStatus();
}

}  // namespace

// In the order in which the parts are made; Stop() ends them in the reverse order.
struct Router::Parts {
  Parts(const config::v1::RouterConfig& given, const Clock* injected,
        std::shared_ptr<grpc::ChannelCredentials> to_workers)
      : config(given),
        clock(injected),
        metrics(&registry),
        gateway_metrics(&registry),
        calls({.max_inflight = given.limits().max_inflight(),
               .max_inflight_bytes = given.limits().max_inflight_bytes()}),
        pairs({.clock = injected}),
        workers(WorkersOptions(std::move(to_workers))),
        models(ModelsOptions()) {}

  WorkerTable::Options WorkersOptions(std::shared_ptr<grpc::ChannelCredentials> to_workers);
  ModelCatalog::Options ModelsOptions();
  ApiContext MakeApi();
  absl::Status Start();
  absl::Status WatchCertificates();
  void OnModels(bool servable);
  void Tick();
  void Stop();

  const config::v1::RouterConfig config;
  const Clock* const clock;
  MetricRegistry registry;
  RouterMetrics metrics;
  GatewayMetrics gateway_metrics;
  const Incarnation incarnation = NewIncarnation();
  std::unique_ptr<CertificateExpiry> certificate_expiry;
  Readiness readiness;
  std::unique_ptr<Gateway> gateway;
  CallRegistry calls;
  PairBreaker pairs;
  WorkerTable workers;
  ModelCatalog models;
  std::unique_ptr<PromptPool> prompts;
  std::unique_ptr<InferenceService> service;
  std::unique_ptr<GrpcServer> server;
  std::unique_ptr<HttpServer> observability;

  Mutex mu;
  CondVar wake;
  bool stopping ABSL_GUARDED_BY(mu) = false;
  std::jthread ticker;  // looks after clients that do not read, and after gauges
};

WorkerTable::Options Router::Parts::WorkersOptions(
    std::shared_ptr<grpc::ChannelCredentials> to_workers) {
  WorkerTable::Options options;
  options.targets.assign(config.workers().begin(), config.workers().end());
  options.resolve_interval = ToAbsl(config.resolve_interval());
  options.channel = {std::move(to_workers), kMaxWorkerMessage};
  options.session.incarnation = incarnation;
  options.session.silence = {ToAbsl(config.heartbeat().interval()), config.heartbeat().missed()};
  options.session.stuck_after = ToAbsl(config.heartbeat().stuck_after());
  options.session.clock = clock;
  options.session.on_change = [this] { models.Refresh(); };
  options.tick = kTick;
  return options;
}

ModelCatalog::Options Router::Parts::ModelsOptions() {
  ModelCatalog::Options options;
  options.aliases.insert(config.aliases().begin(), config.aliases().end());
  options.workers = [this] { return workers.Snapshot(); };
  options.on_update = [this](bool servable) { OnModels(servable); };
  return options;
}

ApiContext Router::Parts::MakeApi() {
  ApiContext api;
  api.workers = &workers;
  api.models = &models;
  api.prompts = prompts.get();
  api.calls = &calls;
  api.pairs = &pairs;
  api.metrics = &metrics;
  api.clock = clock;
  api.max_prompt_bytes = config.limits().max_prompt_bytes();
  api.default_max_tokens = config.limits().default_max_tokens();
  api.client_buffer_bytes = config.limits().client_buffer_bytes();
  api.slow_client_timeout = ToAbsl(config.limits().slow_client_timeout());
  api.failover = {.max_attempts = config.failover().max_attempts(),
                  .max_deaths = config.failover().max_deaths(),
                  .wait = ToAbsl(config.failover().wait())};
  return api;
}

absl::Status Router::Parts::WatchCertificates() {
  ASSIGN_OR_RETURN(TlsSettings listen, TlsSettingsOf(config.server().tls(), "server.tls"));
  ASSIGN_OR_RETURN(TlsSettings connect, TlsSettingsOf(config.worker_tls(), "worker_tls"));
  ASSIGN_OR_RETURN(certificate_expiry,
                   CertificateExpiry::Watch({.sections = {std::move(listen), std::move(connect)}},
                                            DeclareCertificateExpiry(&registry)));
  return absl::OkStatus();
}

absl::Status Router::Parts::Start() {
  DeclareBuildInfo(&registry, "router");
  RETURN_IF_ERROR(WatchCertificates());
  ASSIGN_OR_RETURN(gateway, Gateway::Open(config, incarnation, &gateway_metrics));
  readiness.Block("models", "no worker has connected yet");
  PromptPool::Options pool;
  pool.threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency() / 2, 1u, 16u));
  pool.max_queue = config.limits().max_queued_prompts();
  prompts = std::make_unique<PromptPool>(pool);
  service = std::make_unique<InferenceService>(MakeApi());
  ASSIGN_OR_RETURN(
      server, GrpcServer::Start(config.server(),
                                {.services = {service.get()},
                                 .max_message_bytes = config.limits().max_request_bytes(),
                                 .max_buffer_bytes =
                                     kMinBufferBytes + 2 * config.limits().max_inflight_bytes()}));
  readiness.Follow([this](bool ready) { server->SetServing(ready); });
  ASSIGN_OR_RETURN(observability,
                   ServeObservability(config.observability().listen(), &registry, &readiness));
  models.Start();
  workers.Start();
  ticker = std::jthread([this] { Tick(); });
  return absl::OkStatus();
}

void Router::Parts::OnModels(bool servable) {
  if (servable) {
    readiness.Clear("models");
  } else {
    readiness.Block("models", "no model has a worker that is ready");
  }
}

void Router::Parts::Tick() {
  std::map<std::pair<std::string, std::string>, int> worker_counts;  // by role and state
  for (;;) {
    calls.Tick();
    metrics.requests_inflight.Set(static_cast<double>(calls.size()));
    gateway->Tick();
    for (auto& [labels, count] : worker_counts) count = 0;
    for (const WorkerView& view : workers.Snapshot().views) {
      ++worker_counts[{RoleLabel(*view.facts), StateLabel(view.facts->state)}];
    }
    for (const auto& [labels, count] : worker_counts) {
      metrics.workers.With({labels.first, labels.second}).Set(count);
    }
    MutexLock lock(&mu);
    if (!stopping) wake.WaitFor(&mu, kTick);
    if (stopping) return;
  }
}

void Router::Parts::Stop() {
  {
    MutexLock lock(&mu);
    stopping = true;
  }
  wake.NotifyAll();
  if (ticker.joinable()) ticker.join();
  models.Stop();
  readiness.Follow(nullptr);
  if (server != nullptr) server->Shutdown(kCutOff);
  prompts.reset();  // what still waits there belongs to calls that have ended
  workers.Stop();
  if (gateway != nullptr) gateway->Stop(RealClock()->Now() + kCutOff);
}

absl::StatusOr<std::unique_ptr<Router>> Router::Start(const config::v1::RouterConfig& config,
                                                      const Clock* clock) {
  RETURN_IF_ERROR(CheckWayToWorkers(config));
  ASSIGN_OR_RETURN(auto to_workers, MakeChannelCredentials(config.worker_tls(), "worker_tls"));
  auto router = std::unique_ptr<Router>(
      new Router(std::make_unique<Parts>(config, clock, std::move(to_workers))));
  RETURN_IF_ERROR(router->parts_->Start());
  return router;
}

Router::Router(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Router::~Router() {
  parts_->calls.StopAccepting();
  parts_->calls.FailAll(Stopping());
  parts_->Stop();
}

HostPort Router::grpc_address() const { return parts_->server->address(); }
HostPort Router::metrics_address() const { return parts_->observability->address(); }
std::string Router::MetricsText() const { return parts_->registry.Text(); }

void Router::Drain() {
  const absl::Duration patience = ToAbsl(parts_->config.drain_timeout());
  LogInfo("draining", {{"requests", parts_->calls.size()}, {"timeout", patience}});
  parts_->calls.StopAccepting();
  parts_->readiness.Block("drain", "the router is stopping");
  if (!parts_->calls.WaitUntilEmpty(patience)) {
    LogWarning("requests are cut off", {{"requests", parts_->calls.size()}});
    parts_->calls.FailAll(Stopping());
  }
  parts_->Stop();
}

}  // namespace tandem
