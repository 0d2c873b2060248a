#include "worker/worker.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/status.h"
#include "base/tls_config.h"
#include "worker/service/identity.h"

namespace tandem {
namespace {

constexpr size_t kMaxMessageBytes = 64 << 20;  // prompt log-probabilities of a long prompt
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

std::vector<Role> RolesOf(config::v1::Role role) {
  switch (role) {
    case config::v1::ROLE_PREFILL:
      return {Role::kPrefill, Role::kUnified};
    case config::v1::ROLE_DECODE:
      return {Role::kDecode, Role::kUnified};
    default:
      return {Role::kUnified, Role::kPrefill, Role::kDecode};
  }
}

worker::v1::Role ToWire(config::v1::Role role) {
  switch (role) {
    case config::v1::ROLE_PREFILL:
      return worker::v1::ROLE_PREFILL;
    case config::v1::ROLE_DECODE:
      return worker::v1::ROLE_DECODE;
    default:
      return worker::v1::ROLE_UNIFIED;
  }
}

// Where other workers are told to connect to.
absl::Status CheckReachable(const HostPort& peers) {
  const std::string& host = peers.host;
  const bool wildcard = host.empty() || host == "::" || host.find_first_not_of("0.") == host.npos;
  if (!wildcard) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "kv.advertise_host: server.listen is ", peers.ToString(),
      ", which is no address to connect to; say which host other workers reach this one at"));
}

}  // namespace

Worker::Worker(const config::v1::WorkerConfig& config)
    : config_(config), incarnation_(NewIncarnation()), metrics_(&registry_) {
  DeclareBuildInfo(&registry_, "tandem-worker");
}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(const config::v1::WorkerConfig& config) {
  auto worker = std::unique_ptr<Worker>(new Worker(config));
  ASSIGN_OR_RETURN(worker->tls_, OpenWorkerTls(config));
  RETURN_IF_ERROR(worker->WatchCertificates());
  worker->readiness_.Block("model", "it is being loaded");
  RETURN_IF_ERROR(worker->StartObservability());
  ASSIGN_OR_RETURN(worker->model_, LoadModel(config));
  RETURN_IF_ERROR(worker->StartEngine());
  RETURN_IF_ERROR(worker->StartServer());
  worker->readiness_.Clear("model");
  return worker;
}

absl::Status Worker::WatchCertificates() {
  ASSIGN_OR_RETURN(TlsSettings listen, TlsSettingsOf(config_.server().tls(), "server.tls"));
  ASSIGN_OR_RETURN(TlsSettings connect, TlsSettingsOf(config_.peer_tls(), "peer_tls"));
  ASSIGN_OR_RETURN(certificate_expiry_,
                   CertificateExpiry::Watch({.sections = {std::move(listen), std::move(connect)}},
                                            DeclareCertificateExpiry(&registry_)));
  return absl::OkStatus();
}

absl::Status Worker::StartObservability() {
  ASSIGN_OR_RETURN(http_, ServeObservability(config_.observability().listen(), &registry_,
                                             &readiness_, [this] { return Alive(); }));
  return absl::OkStatus();
}

absl::Status Worker::Alive() const {
  const Engine* engine = watched_;
  if (engine == nullptr) return absl::OkStatus();
  return CheckProgress(engine->progress(), 2 * ToDuration(config_.heartbeat().stuck_after()));
}

void Worker::WatchEngine() {
  const absl::Status moves =
      CheckProgress(engine_->progress(), ToDuration(config_.heartbeat().stuck_after()));
  if (moves.ok()) return readiness_.Clear("engine");
  const std::string why(moves.message());
  if (readiness_.Block("engine", why)) LogError("the engine is stuck", {{"why", why}});
}

absl::Status Worker::StartEngine() {
  BlockMemory* memory = model_.model->kv();
  ASSIGN_OR_RETURN(pool_, BlockPool::Create({.blocks = memory->blocks()}));
  engine_metrics_ =
      std::make_unique<EngineMetrics>(metrics_, Info().model(), memory->layout(), memory->blocks());
  HandoffOptions handoff;
  handoff.incarnation = incarnation_;
  handoff.name = config_.server().listen();
  handoff.transfer_listen = config_.kv().transfer_listen();
  handoff.advertise_host = config_.kv().advertise_host();
  handoff.connections = config_.kv().connections();
  handoff.shm = config_.kv().shm();
  handoff.shm_directory = config_.kv().shm_directory();
  handoff.tls = tls_;
  handoff.insecure = config_.server().insecure();
  handoff.window_bytes = config_.kv().window_bytes();
  handoff.push_timeout = ToDuration(config_.kv().push_timeout());
  handoff.on_phase = [phase = metrics_.handoff_phase](SenderState state, absl::Duration took) {
    phase.With({absl::AsciiStrToLower(NameOf(state))}).Observe(took);
  };
  ASSIGN_OR_RETURN(handoffs_, MakeHandoffs(memory, handoff));

  if (const Asset* tokenizer = model_.assets.Find("tokenizer.json")) {
    guide_metrics_ = std::make_unique<GuideMetrics>(metrics_, Info().model());
    guides_ = std::make_unique<GuidePool>(tokenizer->data, model_.model->spec().vocab,
                                          GuidePool::Options{.metrics = guide_metrics_.get()});
  }
  EngineOptions options;
  options.max_sequences = config_.engine().max_sequences();
  options.max_queue = config_.engine().max_queue();
  options.max_batch_tokens = config_.engine().max_batch_tokens();
  options.step_target = ToDuration(config_.engine().max_step());
  options.queue_timeout = ToDuration(config_.engine().queue_timeout());
  options.handoff_timeout = ToDuration(config_.engine().handoff_timeout());
  options.prefix_cache = config_.kv().prefix_cache();
  options.tenant_key = NewRandomId();  // one tenant, and no two processes share blocks by key
  ASSIGN_OR_RETURN(engine_, Engine::Start(options, {.model = model_.model.get(),
                                                    .pool = pool_.get(),
                                                    .sender = handoffs_->sender(),
                                                    .receiver = handoffs_->receiver(),
                                                    .clock = RealClock(),
                                                    .metrics = engine_metrics_.get(),
                                                    .guides = guides_.get()}));
  watched_ = engine_.get();
  return absl::OkStatus();
}

worker::v1::WorkerInfo Worker::Info() const {
  BlockMemory* memory = model_.model->kv();
  worker::v1::WorkerInfo info =
      MakeWorkerInfo(model_.model->spec(), memory->layout(), model_.assets, memory->blocks());
  info.set_protocol_version(kWorkerProtocolVersion);
  info.set_incarnation(static_cast<uint64_t>(incarnation_));
  info.set_role(ToWire(config_.role()));
  info.set_model(config_.model().name().empty() ? ModelNameOf(config_.model().path())
                                                : config_.model().name());
  info.set_revision(config_.model().revision());
  info.set_max_context(model_.max_context);
  info.set_max_sequences(config_.engine().max_sequences());
  info.set_max_queue(config_.engine().max_queue());
  return info;
}

absl::Status Worker::StartServer() {
  const worker::v1::WorkerInfo info = Info();
  SessionService::Options options;
  options.parts.engine = engine_.get();
  options.parts.clock = RealClock();
  options.parts.limits = {.max_context = info.max_context(),
                          .vocabulary = info.vocabulary(),
                          .eos_ids = model_.model->spec().eos_ids,
                          .roles = RolesOf(config_.role())};
  options.parts.info = info;
  options.parts.silence = {ToDuration(config_.heartbeat().interval()),
                           config_.heartbeat().missed()};
  options.assets = model_.assets.assets;
  options.sessions = metrics_.sessions;
  options.on_beat = [this] {
    const SenderCounters sent = handoffs_->sent();
    const ReceiverCounters received = handoffs_->received();
    metrics_.links.Set(received.links + sent.links_made - sent.links_lost);
    metrics_.leases_expired.Add(static_cast<double>(
        received.leases_expired - std::exchange(leases_expired_, received.leases_expired)));
    WatchEngine();
  };
  service_ = std::make_unique<SessionService>(std::move(options));
  ASSIGN_OR_RETURN(server_, GrpcServer::Start(config_.server(),
                                              {.services = {service_.get(), handoffs_->service()},
                                               .max_message_bytes = kMaxMessageBytes}));
  HostPort peers = server_->address();
  if (!config_.kv().advertise_host().empty()) peers.host = config_.kv().advertise_host();
  RETURN_IF_ERROR(CheckReachable(peers));
  service_->Open(peers.ToString());
  readiness_.Follow([server = server_.get()](bool ready) { server->SetServing(ready); });
  return absl::OkStatus();
}

std::map<std::string, std::string> Worker::addresses() const {
  return {{"grpc", server_->address().ToString()},
          {"metrics", http_->address().ToString()},
          {"kv", handoffs_->transport_address()}};
}

void Worker::Drain() {
  readiness_.Block("worker", "it is stopping");
  engine_->Drain();
  if (!engine_->WaitDrained(ToDuration(config_.drain_timeout()))) {
    const EngineLoad load = engine_->load();
    LogWarning("requests are cut off", {{"running", load.running}, {"waiting", load.waiting}});
  }
}

Worker::~Worker() {
  http_.reset();
  readiness_.Follow(nullptr);
  if (service_ != nullptr) service_->EndSessions(absl::UnavailableError("this worker is stopping"));
  if (server_ != nullptr) server_->Shutdown(kShutdownGrace);
  if (engine_ != nullptr) engine_->Stop();
}

}  // namespace tandem
