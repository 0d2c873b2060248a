#include "router/api/generate.h"

#include <utility>

#include "base/grpc_status.h"
#include "base/ids.h"
#include "base/status.h"
#include "router/api/dispatch.h"
#include "router/api/error_map.h"
#include "router/api/request_check.h"
#include "router/api/request_metrics.h"
#include "router/prompt/deltas.h"
#include "router/prompt/prompt.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

// One request from its arrival to its end: each of its attempts is made from this. Workers know it
// by an id of our own, since it names the handoff: a client may use one id twice, and so may the
// clients of two routers.
struct Job {
  ApiContext api;
  iv1::GenerateRequest request;  // without its prompt, once that is known
  std::shared_ptr<const ServedModel> model;
  std::shared_ptr<Relay> relay;
  absl::Time deadline;
  std::string id = NewRandomId();
  Prompt prompt;
  iv1::SamplingParams sampling;
};

uint32_t OutputsOf(const iv1::SamplingParams& sampling) {
  return sampling.has_n() ? sampling.n() : 1;
}

Relay::Plan MakePlan(const Job& job) {
  const Prompt& prompt = job.prompt;
  Relay::Plan plan;
  plan.start.set_request_id(job.relay->request_id());
  plan.start.set_model(job.model->name);
  plan.start.set_model_revision(job.model->facts->revision);
  plan.start.set_seed(job.sampling.seed());
  plan.start.set_prompt_tokens(static_cast<uint32_t>(prompt.ids.size()));
  const iv1::ResponseOptions& response = job.request.response();
  if (response.token_ids()) {
    plan.start.mutable_prompt_token_ids()->Add(prompt.ids.begin(), prompt.ids.end());
  }
  plan.max_tokens = prompt.max_tokens;
  if (job.request.stopping().has_time_limit_ms()) {
    plan.time_limit = absl::Milliseconds(job.request.stopping().time_limit_ms());
  }
  plan.want_logprobs = response.has_logprobs();
  plan.want_prompt_logprobs = response.has_prompt_logprobs();
  plan.send_token_ids = response.token_ids();
  plan.include_stop = job.request.stopping().include_stop();
  return plan;
}

// One an output.
absl::StatusOr<std::vector<Deltas>> MakeDeltas(const Job& job) {
  const iv1::ResponseOptions& response = job.request.response();
  const iv1::StoppingParams& stopping = job.request.stopping();
  Deltas::Options options;
  options.stops.assign(stopping.stop().begin(), stopping.stop().end());
  options.min_tokens = stopping.min_tokens();
  options.include_stop = stopping.include_stop();
  options.skip_special = !response.has_skip_special_tokens() || response.skip_special_tokens();
  options.no_text = response.no_text();
  std::vector<Deltas> out;
  for (uint32_t i = 0; i < OutputsOf(job.request.sampling()); ++i) {
    ASSIGN_OR_RETURN(Deltas one, Deltas::Create(*job.model->text, options));
    out.push_back(std::move(one));
  }
  return out;
}

wv1::Submit MakeSubmit(const Job& job) {
  const Prompt& prompt = job.prompt;
  wv1::Submit submit;
  submit.set_request_id(job.id);
  submit.mutable_prompt_ids()->Add(prompt.ids.begin(), prompt.ids.end());
  *submit.mutable_sampling() = job.sampling;
  *submit.mutable_stopping() = job.request.stopping();
  submit.mutable_stopping()->set_max_tokens(prompt.max_tokens);
  if (submit.stopping().min_tokens() > prompt.max_tokens) {  // the context has room for no more
    submit.mutable_stopping()->set_min_tokens(prompt.max_tokens);
  }
  if (submit.stopping().has_time_limit_ms()) {  // of which some has passed
    const absl::Duration left = absl::Milliseconds(submit.stopping().time_limit_ms()) -
                                (job.api.clock->Now() - job.relay->arrival());
    const int64_t left_ms = std::max<int64_t>(absl::ToInt64Milliseconds(left), 1);
    submit.mutable_stopping()->set_time_limit_ms(static_cast<uint32_t>(left_ms));
  }
  *submit.mutable_response() = job.request.response();
  *submit.mutable_guided() = job.request.guided();
  *submit.mutable_cache() = job.request.cache();
  submit.set_priority(job.request.priority());
  if (job.deadline != absl::InfiniteFuture()) {
    const int64_t left = absl::ToInt64Milliseconds(job.deadline - RealClock()->Now());
    submit.set_budget_ms(static_cast<uint64_t>(std::max<int64_t>(left, 1)));
  }
  return submit;
}

DispatchOrder MakeOrder(const Job& job) {
  PlacementCall call;
  call.model = job.model->name;
  call.revision = job.model->facts->revision;
  call.prompt_tokens = static_cast<uint32_t>(job.prompt.ids.size());
  call.max_tokens = job.prompt.max_tokens;
  call.outputs = OutputsOf(job.request.sampling());
  call.apart = job.api.pairs->Apart();
  return {std::move(call), [&job] { return MakeSubmit(job); }};
}

absl::Status Dispatch(const Job& job, const RelayAttempt& attempt) {
  const WorkerSnapshot workers = job.api.workers->Snapshot();
  return DispatchAttempt(
      attempt, MakeOrder(job), workers.views,
      [&workers](size_t worker) { return workers.sessions[worker]; }, job.relay.get());
}

// The default must not be what makes several outputs too large for their worker together.
uint32_t MaxTokens(const Job& job, const Prompt& prompt) {
  const uint32_t tokens = static_cast<uint32_t>(prompt.ids.size());
  const uint32_t outputs = OutputsOf(job.request.sampling());
  if (outputs == 1 || job.request.stopping().has_max_tokens()) return prompt.max_tokens;
  uint64_t room = 0;
  for (const auto& facts : job.model->workers) {
    room = std::max(room, Capacity(*facts, tokens, outputs));
  }
  if (room <= tokens) return prompt.max_tokens;  // refused by placement, with numbers
  const uint64_t most = std::max<uint64_t>(room - tokens, job.request.stopping().min_tokens());
  return static_cast<uint32_t>(std::min<uint64_t>(prompt.max_tokens, most));
}

absl::Status Prepare(const std::shared_ptr<Job>& job) {
  if (job->relay->ended()) return absl::OkStatus();  // the client left while this waited
  const PromptLimits limits = {.max_prompt_bytes = job->api.max_prompt_bytes,
                               .max_context = job->model->max_context,
                               .worker_tokens = job->model->worker_tokens,
                               .vocabulary = job->model->facts->vocabulary,
                               .default_max_tokens = job->api.default_max_tokens};
  ASSIGN_OR_RETURN(job->prompt, MakePrompt(*job->model->text, job->request, limits, absl::Now()));
  job->request.clear_input();
  job->prompt.max_tokens = MaxTokens(*job, job->prompt);
  job->sampling =
      ResolveSampling(job->request.sampling(), job->model->text->defaults, RandomUint64());
  ASSIGN_OR_RETURN(std::vector<Deltas> deltas, MakeDeltas(*job));
  // False: the client has left, and nothing may be started for it.
  if (job->relay->Begin(MakePlan(*job), std::move(deltas),
                        [job](const RelayAttempt& attempt) { return Dispatch(*job, attempt); })) {
    job->relay->Dispatch();
  }
  return absl::OkStatus();
}

absl::Status Admit(const std::shared_ptr<Job>& job) {
  RETURN_IF_ERROR(CheckRequest(job->request));
  ASSIGN_OR_RETURN(job->model, job->api.models->Find(job->request.model()));
  RETURN_IF_ERROR(CheckTokenIds(job->request, job->model->facts->vocabulary));
  RETURN_IF_ERROR(job->api.calls->Add(job->relay, job->request.SpaceUsedLong()));
  const bool queued = job->api.prompts->TryRun([job] {
    if (absl::Status status = Prepare(job); !status.ok()) job->relay->Fail(std::move(status));
  });
  return queued ? absl::OkStatus() : PromptQueueFull();
}

}  // namespace

std::shared_ptr<Relay> StartGenerate(const ApiContext& api, const iv1::GenerateRequest& request,
                                     absl::Time deadline, AnswerMode mode) {
  Relay::Options options;
  options.request_id = IsRequestId(request.request_id()) ? request.request_id() : NewRandomId();
  options.clock = api.clock;
  options.client_buffer_bytes = mode == AnswerMode::kStream ? api.client_buffer_bytes : 0;
  options.slow_client_timeout = api.slow_client_timeout;
  options.failover = api.failover;
  options.metrics = api.metrics;
  options.pairs = api.pairs;
  auto relay = std::make_shared<Relay>(std::move(options));
  auto job = std::make_shared<Job>(
      Job{.api = api, .request = request, .relay = relay, .deadline = deadline});
  if (absl::Status status = Admit(job); !status.ok()) relay->Fail(std::move(status));
  return relay;
}

void CountGenerate(const ApiContext& api, const Relay& relay, AnswerMode mode) {
  CountRequest(*api.metrics, mode == AnswerMode::kStream ? "Generate" : "GenerateOnce",
               relay.Outcome());
}

}  // namespace tandem
