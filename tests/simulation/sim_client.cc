#include "tests/simulation/sim_client.h"

#include <utility>

#include "base/check.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

constexpr absl::Duration kTick = absl::Milliseconds(100);

uint32_t OutputsOf(const worker::v1::Submit& submit) {
  return submit.sampling().has_n() ? submit.sampling().n() : 1;
}

Relay::Options RelayOptions(const SimClient::Options& options, const Clock* clock,
                            const RouterMetrics* metrics) {
  Relay::Options out;
  out.request_id = options.request_id;
  out.clock = clock;
  out.client_buffer_bytes = 400;
  out.slow_client_timeout = absl::Hours(1);
  out.failover = options.failover;
  out.metrics = metrics;
  return out;
}

}  // namespace

SimClient::SimClient(Events* events, const Workers* workers, const TextModel* text,
                     const RouterMetrics* metrics, Options options)
    : events_(events),
      workers_(workers),
      text_(text),
      options_(std::move(options)),
      relay_(std::make_shared<Relay>(RelayOptions(options_, events->clock(), metrics))),
      outputs_(OutputsOf(options_.submit)) {}

void SimClient::Start() {
  const worker::v1::Submit& submit = options_.submit;
  Relay::Plan plan;
  plan.start.set_model("toy");
  plan.start.set_prompt_tokens(submit.prompt_ids_size());
  plan.max_tokens = submit.stopping().max_tokens();
  plan.want_logprobs = submit.response().has_logprobs();
  plan.want_prompt_logprobs = submit.response().has_prompt_logprobs();
  plan.send_token_ids = true;
  std::vector<Deltas> deltas;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    absl::StatusOr<Deltas> one = Deltas::Create(*text_, options_.deltas);
    TANDEM_CHECK(one.ok(), "the byte tokenizer makes no deltas");
    deltas.push_back(*std::move(one));
  }
  relay_->SetReader(shared_from_this());
  relay_->Begin(
      std::move(plan), std::move(deltas),
      [self = shared_from_this()](const RelayAttempt& attempt) { return self->Dispatch(attempt); });
  relay_->Dispatch();
  TellTokens();
  events_->After(kTick, [self = shared_from_this()] { self->Tick(); });
  if (!options_.cancel_after) return;
  events_->After(*options_.cancel_after, [self = shared_from_this()] {
    if (self->relay_->ended()) return;
    self->cancelled_ = true;
    self->relay_->Fail(absl::CancelledError("the client has left"));
  });
}

absl::Status SimClient::Dispatch(const RelayAttempt& attempt) {
  std::vector<WorkerView> views;
  for (const auto& worker : *workers_) views.push_back(worker->View());
  PlacementCall call;
  call.model = "toy";
  call.revision = options_.revision;
  call.prompt_tokens = options_.submit.prompt_ids_size();
  call.max_tokens = options_.submit.stopping().max_tokens();
  call.outputs = static_cast<uint32_t>(outputs_.size());
  attempts_ = attempt.number;
  serving_.clear();
  return DispatchAttempt(
      attempt, {std::move(call), [this] { return options_.submit; }}, views,
      [this](size_t worker) {  // the workers outlive every event
        serving_.push_back((*workers_)[worker].get());
        return std::shared_ptr<WorkerChannel>(serving_.back(), [](WorkerChannel*) {});
      },
      relay_.get());
}

void SimClient::Tick() {
  if (ended()) return;
  relay_->Tick();
  events_->After(kTick, [self = shared_from_this()] { self->Tick(); });
}

void SimClient::OnReady() {
  if (std::exchange(reading_, true)) return;
  events_->After(options_.read_pause, [self = shared_from_this()] { self->Read(); });
}

void SimClient::Read() {
  reading_ = false;
  const std::optional<Relay::Chunk> chunk = relay_->Take(/*whole=*/false);
  if (!chunk) return;
  if (status_) faults.emplace_back("something came behind the end");
  if (chunk->has_message) {
    Take(chunk->message);
    TellTokens();
  }
  if (chunk->end) {
    status_ = *chunk->end;
    relay_->SetReader(nullptr);
  } else {
    OnReady();
  }
}

void SimClient::TellTokens() {
  if (!options_.on_tokens) return;
  size_t tokens = 0;
  for (const Output& output : outputs_) tokens += output.token_ids.size();
  options_.on_tokens(*this, tokens);
}

void SimClient::Take(const iv1::GenerateResponse& message) {
  for (const iv1::PositionLogprobs& one : message.start().prompt_logprobs()) {
    prompt_logprobs_.push_back(one);
  }
  for (const iv1::OutputDelta& delta : message.outputs()) {
    Output& output = outputs_[delta.index()];
    if (output.finish) faults.emplace_back("an output went on behind its finish");
    output.token_ids.insert(output.token_ids.end(), delta.token_ids().begin(),
                            delta.token_ids().end());
    output.text += delta.text();
    output.logprobs.insert(output.logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
    if (delta.has_finish()) output.finish = delta.finish();
  }
}

EngineRequest SimClient::request() const {
  worker::v1::Submit submit = options_.submit;
  submit.set_role(worker::v1::ROLE_UNIFIED);
  const absl::StatusOr<EngineRequest> request = CheckSubmit(
      submit, {.max_context = 4096, .vocabulary = ToyModel::kVocab, .roles = {Role::kUnified}},
      absl::InfinitePast());
  TANDEM_CHECK(request.ok(), request.status().ToString().c_str());
  return *request;
}

}  // namespace tandem
