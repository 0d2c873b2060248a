#include "worker/engine/core.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr absl::string_view kSessionEnded = "the router's session ended";

}  // namespace

absl::StatusOr<std::unique_ptr<EngineCore>> EngineCore::Create(
    const EngineOptions& options, const EngineParts& parts,
    std::function<void(EngineMessage)> post) {
  const uint32_t block_tokens = parts.model->kv()->layout().block_tokens;
  const uint64_t least = uint64_t{options.max_sequences} + block_tokens;
  const auto need = [least](uint64_t value, absl::string_view name) {
    if (value >= least) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("engine: ", name, " is ", value,
                                                   ", but a step with max_sequences decoding ",
                                                   "and one block of a prompt needs ", least));
  };
  if (options.max_sequences < 1 || options.max_sequences > 4096) {
    return absl::InvalidArgumentError(
        absl::StrCat("engine: max_sequences is ", options.max_sequences, ", want 1 to 4096"));
  }
  if (options.lookahead_tokens < 1 || options.priority_step < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        "engine: want a lookahead_tokens of 1 or more, and no priority_step below 0");
  }
  RETURN_IF_ERROR(need(options.max_batch_tokens, "max_batch_tokens"));
  RETURN_IF_ERROR(need(parts.model->max_logit_rows(), "the model's max_logit_rows"));
  if (options.max_batch_tokens > static_cast<uint32_t>(parts.model->max_rows())) {
    return absl::InvalidArgumentError(
        absl::StrCat("engine: max_batch_tokens is ", options.max_batch_tokens,
                     ", but the model was made for ", parts.model->max_rows(), " rows"));
  }
  return std::unique_ptr<EngineCore>(new EngineCore(options, parts, std::move(post)));
}

EngineCore::EngineCore(const EngineOptions& options, const EngineParts& parts,
                       std::function<void(EngineMessage)> post)
    : options_(options),
      parts_(parts),
      limits_({options.max_sequences, options.max_batch_tokens,
               static_cast<uint32_t>(parts.model->max_logit_rows()),
               parts.model->kv()->layout().block_tokens}),
      vocab_(static_cast<uint32_t>(parts.model->spec().vocab)),
      post_(std::move(post)),
      cache_(parts.pool),
      batch_(options.max_batch_tokens, options.max_sequences, limits_.block_tokens) {
  runs_.reserve(options.max_sequences);
  held_.reserve(options.max_sequences);
}

void EngineCore::OpenSession(SessionId session, std::shared_ptr<StepSink> sink) {
  Session& opened = sessions_[session];
  opened.sink = std::move(sink);
  opened.sink->OnLoad(load());
}

void EngineCore::CloseSession(SessionId session) {
  sessions_.erase(session);
  const auto end = [&](Sequence& sequence) {
    if (sequence.session() != session || sequence.ended()) return;
    AbandonHandoff(sequence, kSessionEnded);
    Retire(sequence, SequenceEnd::kCancelled);
  };
  for (const auto& sequence : waiting_) end(*sequence);
  for (const auto& sequence : held_) end(*sequence);
  Sweep();
}

absl::Status EngineCore::CheckSubmit(SessionId session, const EngineRequest& request) const {
  if (draining_) {
    return WithReasonName(absl::UnavailableError("this worker is draining"), kDrainingReason);
  }
  if (live_.contains(Key(session, request.handle))) {
    return absl::InternalError(absl::StrCat("handle ", request.handle, " is in use"));
  }
  if (request.role == Role::kPrefill && parts_.sender == nullptr) {
    return absl::FailedPreconditionError("this worker does not hand KV over");
  }
  if (request.role == Role::kDecode && parts_.receiver == nullptr) {
    return absl::FailedPreconditionError("this worker does not take KV over");
  }
  if (request.guided && parts_.guides == nullptr) {
    return absl::FailedPreconditionError("guided: this model has no tokenizer.json");
  }
  RETURN_IF_ERROR(CheckName(request.role, {request.request_id, request.attempt}));
  RETURN_IF_ERROR(CheckSize(request));
  if (request.deadline <= parts_.clock->Now()) {
    return absl::DeadlineExceededError("the deadline passed before the request could start");
  }
  return CheckPlace(session);
}

absl::Status EngineCore::CheckSize(const EngineRequest& request) const {
  const uint32_t sequences = SequencesNeeded(request);
  if (sequences > limits_.max_sequences) {
    return absl::InvalidArgumentError(absl::StrCat("sampling.n: ", sequences,
                                                   " outputs run at once, and this worker runs at ",
                                                   "most ", limits_.max_sequences, " sequences"));
  }
  const uint64_t blocks = BlocksNeeded(request, limits_.block_tokens);
  if (blocks <= parts_.pool->blocks()) return absl::OkStatus();
  std::string what = "prompt and max_tokens";
  if (request.role == Role::kPrefill) {
    what = request.resume.empty() ? "the prompt's tokens" : "the prompt's and the resumed tokens";
  }
  if (sequences > 1) what = absl::StrCat("the prompt and max_tokens of ", sequences, " outputs");
  return absl::InvalidArgumentError(
      absl::StrCat(what, " need ", blocks, " KV blocks of ", limits_.block_tokens,
                   " tokens, and this worker has ", parts_.pool->blocks(), " in all"));
}

uint32_t EngineCore::HeldSequences() const {
  uint32_t sequences = 0;
  for (const auto& sequence : held_) sequences += SequencesNeeded(sequence->request());
  return sequences;
}

absl::Status EngineCore::CheckPlace(SessionId session) const {
  const size_t waiting = waiting_.size();
  if (waiting >= options_.max_queue) {
    return absl::UnavailableError(
        absl::StrCat("the queue is full: ", waiting, " requests wait for KV blocks"));
  }
  if (sessions_.size() == 1) return absl::OkStatus();
  const size_t left = options_.max_queue - waiting;
  const size_t own = std::count_if(waiting_.begin(), waiting_.end(),
                                   [session](const auto& s) { return s->session() == session; });
  if (own < left) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      "the queue's other places are for other routers: ", own, " requests of this one wait and ",
      left, " places are left, and with ", sessions_.size(),
      " routers connected none may take more places than it leaves"));
}

void EngineCore::Submit(SessionId session, EngineRequest request) {
  if (!sessions_.contains(session)) return;
  if (const absl::Status status = CheckSubmit(session, request); !status.ok()) {
    return sessions_[session].sink->OnRefused(request.handle, status);
  }
  const BlockKey root =
      RootBlockKey(parts_.model->kv()->layout().kv_abi, options_.tenant_key, request.cache_salt);
  auto sequence = std::make_unique<Sequence>(next_id_++, session, std::move(request),
                                             parts_.clock->Now(), root);
  const uint64_t handle = sequence->request().handle;
  next_id_ += sequence->request().outputs - 1;  // the others get the numbers behind it
  sequence->place = {parts_.clock->Now() - sequence->request().priority * options_.priority_step,
                     sequence->id()};
  live_[Key(session, handle)] = {sequence.get()};
  if (sequence->request().role == Role::kDecode) AnnounceHandoff(*sequence);
  const uint32_t cached_blocks = FindPrefix(*sequence).blocks;
  Sequence& accepted = *sequence;
  Enqueue(std::move(sequence));
  const uint32_t cached = cached_blocks * limits_.block_tokens;
  sessions_[session].sink->OnAccepted(handle, std::min(cached, accepted.prompt_tokens()));
  if (accepted.request().guided) BeginGuide(accepted);
}

void EngineCore::BeginGuide(Sequence& sequence) {
  const EngineRequest& request = sequence.request();
  sequence.compiling = true;
  std::vector<GivenTokens> given;
  for (const uint32_t output : sequence.outputs()) {
    const absl::Span<const int32_t> tokens = sequence.Resumed(output);
    given.push_back({output, {tokens.begin(), tokens.end()}});
  }
  if (request.resume.empty()) given.resize(1);  // the others are forked where their prompt ends
  std::vector<std::shared_ptr<Guide>> guides =
      parts_.guides->Begin(*request.guided, request.stop_ids, std::move(given),
                           [post = post_, id = sequence.id()](absl::Status compiled) {
                             post([id, compiled = std::move(compiled)](EngineCore& core) mutable {
                               core.OnGuide(id, std::move(compiled));
                             });
                           });
  sequence.guide = std::move(guides[0]);
  sequence.fork_guides.assign(guides.begin() + 1, guides.end());
}

void EngineCore::OnGuide(uint64_t id, const absl::Status& compiled) {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                  [id](const auto& sequence) { return sequence->id() == id; });
  if (found == waiting_.end()) return;  // it has ended
  (*found)->compiling = false;
  (*found)->ready_since = std::max((*found)->ready_since, parts_.clock->Now());
  if (compiled.ok()) return;
  EndWithError(**found, compiled);
  Sweep();
}

EngineCore::Outputs EngineCore::Find(SessionId session, uint64_t handle) const {
  const auto it = live_.find(Key(session, handle));
  return it == live_.end() ? Outputs() : it->second;
}

Sequence* EngineCore::FindHeld(uint64_t id) {
  const auto it =
      std::find_if(held_.begin(), held_.end(), [id](const auto& s) { return s->id() == id; });
  return it == held_.end() ? nullptr : it->get();
}

absl::Status EngineCore::CheckName(Role role, const HandoffKey& key) const {
  if (role == Role::kUnified) return absl::OkStatus();
  const auto same = [&](const std::unique_ptr<Sequence>& s) {
    return s->request().role == role && s->state() != SequenceState::kFinished &&
           s->handoff_key() == key;
  };
  if (std::none_of(waiting_.begin(), waiting_.end(), same) &&
      std::none_of(held_.begin(), held_.end(), same)) {
    return absl::OkStatus();
  }
  return absl::AlreadyExistsError(absl::StrCat("a handoff of request ", key.request_id,
                                               ", attempt ", key.attempt, ", is here"));
}

void EngineCore::Cancel(SessionId session, uint64_t handle) {
  for (Sequence* output : Find(session, handle)) EndCancelled(*output);
  Sweep();
}

void EngineCore::CancelOutput(SessionId session, uint64_t handle, uint32_t output) {
  for (Sequence* one : Find(session, handle)) {
    if (one->request().role == Role::kPrefill) continue;  // has no more of it to compute
    const bool alone = one->request().outputs == 1;
    if (alone && one->output_index() == output) EndCancelled(*one);
    if (!alone) one->cancelled_outputs.insert(output);
  }
  Sweep();
}

void EngineCore::SetPaused(SessionId session, uint64_t handle, bool paused) {
  for (Sequence* output : Find(session, handle)) output->paused = paused;
}

absl::Status EngineCore::CheckReassign(const EngineRequest& request, uint32_t attempt) const {
  if (request.role != Role::kPrefill) {
    return absl::InternalError("reassigned, but it hands nothing over");
  }
  if (attempt <= request.attempt) {
    return absl::InternalError(absl::StrCat("reassigned as attempt ", attempt, ", but attempt ",
                                            request.attempt, " is under way"));
  }
  return CheckName(request.role, {request.request_id, attempt});
}

void EngineCore::Reassign(SessionId session, uint64_t handle, uint32_t attempt, std::string peer) {
  const Outputs outputs = Find(session, handle);
  if (outputs.empty()) return;
  Sequence* sequence = outputs[0];
  const EngineRequest& request = sequence->request();
  if (attempt == request.attempt && peer == request.peer) return;  // said twice
  if (const absl::Status status = CheckReassign(request, attempt); !status.ok()) {
    EndWithError(*sequence, status);
    return Sweep();
  }
  const bool begun = sequence->state() != SequenceState::kWaiting;
  if (begun) AbandonHandoff(*sequence, "it goes to another worker");
  sequence->Reassign(attempt, std::move(peer));
  if (!begun) return;
  BeginHandoff(*sequence);
  if (sequence->state() != SequenceState::kSending) return;
  sequence->handoff_began = parts_.clock->Now();
  parts_.sender->Finish(sequence->handoff_key(), sequence->first_tokens);
}

EngineLoad EngineCore::load() const {
  const absl::Time now = parts_.clock->Now();
  EngineLoad load;
  load.waiting = static_cast<uint32_t>(waiting_.size());
  load.blocks_total = parts_.pool->blocks();
  load.blocks_free = cache_.available();
  load.blocks_unused = cache_.available() - parts_.pool->free_blocks();
  load.blocks_ready = cache_.ready();
  for (const auto& sequence : waiting_) {
    if (!sequence->awaits_handoff()) load.queued_prefill_tokens += sequence->tokens_to_compute();
  }
  for (const auto& sequence : held_) {
    if (sequence->ended()) continue;
    load.running += SequencesNeeded(sequence->request());
    if (sequence->state() == SequenceState::kPrefilling) {
      load.queued_prefill_tokens += sequence->tokens_to_compute();
    }
    if (sequence->request().role != Role::kPrefill) {
      load.outstanding_decode_tokens += sequence->tokens_to_draw();
    }
  }
  load.prefill_tokens_per_second = prefill_rate_.PerSecond(now);
  load.decode_tokens_per_second = decode_rate_.PerSecond(now);
  load.draining = draining_;
  return load;
}

void EngineCore::SendLoad(const EngineLoad& load) {
  for (auto& [id, session] : sessions_) session.sink->OnLoad(load);
}

}  // namespace tandem
