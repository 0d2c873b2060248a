#include "worker/service/request_check.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/request_limits.h"
#include "base/status.h"
#include "base/violations.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;
namespace limit = request_limits;

constexpr uint64_t kMaxPromptLogprobs = 1 << 20;  // entries: about 16 MiB on the wire

std::optional<Role> RoleOf(wv1::Role role) {
  switch (role) {
    case wv1::ROLE_UNIFIED:
      return Role::kUnified;
    case wv1::ROLE_PREFILL:
      return Role::kPrefill;
    case wv1::ROLE_DECODE:
      return Role::kDecode;
    default:
      return std::nullopt;
  }
}

bool IsToken(int32_t id, uint32_t vocabulary) {
  return id >= 0 && static_cast<uint32_t>(id) < vocabulary;
}

void CheckIds(const std::string& field, absl::Span<const int32_t> ids, uint32_t vocabulary,
              Violations* v) {
  const auto wrong = std::find_if(ids.begin(), ids.end(),
                                  [vocabulary](int32_t id) { return !IsToken(id, vocabulary); });
  if (wrong == ids.end()) return;
  v->Add(absl::StrCat(field, "[", wrong - ids.begin(), "]"),
         absl::StrCat("token id ", *wrong, " is outside the vocabulary of ", vocabulary));
}

void CheckLogitBias(const iv1::SamplingParams& s, uint32_t vocabulary, Violations* v) {
  if (!v->Count("sampling.logit_bias", s.logit_bias_size(), limit::kTokenIdEntries)) return;
  for (const auto& [id, bias] : s.logit_bias()) {
    const std::string field = absl::StrCat("sampling.logit_bias[", id, "]");
    v->Range(field, bias, limit::kLogitBias);
    if (IsToken(id, vocabulary)) continue;
    v->Add(field, absl::StrCat("token id ", id, " is outside the vocabulary of ", vocabulary));
  }
}

void CheckSampling(const iv1::SamplingParams& s, const RequestLimits& limits, Violations* v) {
  if (s.has_temperature()) v->Range("sampling.temperature", s.temperature(), limit::kTemperature);
  if (s.has_top_p()) v->Range("sampling.top_p", s.top_p(), limit::kTopP);
  if (s.has_min_p()) v->Range("sampling.min_p", s.min_p(), limit::kMinP);
  v->Range("sampling.presence_penalty", s.presence_penalty(), limit::kPresencePenalty);
  v->Range("sampling.frequency_penalty", s.frequency_penalty(), limit::kFrequencyPenalty);
  if (s.has_repetition_penalty()) {
    v->Range("sampling.repetition_penalty", s.repetition_penalty(), limit::kRepetitionPenalty);
  }
  if (s.has_n()) v->Range("sampling.n", s.n(), limit::kN);
  CheckLogitBias(s, limits.vocabulary, v);
  if (v->Count("sampling.allowed_token_ids", s.allowed_token_ids_size(), limit::kTokenIdEntries)) {
    CheckIds("sampling.allowed_token_ids", s.allowed_token_ids(), limits.vocabulary, v);
  }
}

void CheckStopping(const iv1::StoppingParams& s, const RequestLimits& limits, Violations* v) {
  if (s.has_max_tokens()) {
    v->Check(s.min_tokens() <= s.max_tokens(), "stopping.min_tokens",
             absl::StrCat("it is ", s.min_tokens(), ", more than max_tokens, ", s.max_tokens()));
  }
  v->Count("stopping.stop", s.stop_size(), limit::kStops);
  for (int i = 0; i < std::min<int>(s.stop_size(), limit::kStops); ++i) {
    v->Bytes(absl::StrCat("stopping.stop[", i, "]"), s.stop(i).size(), 1, limit::kStopBytes);
  }
  if (v->Count("stopping.stop_token_ids", s.stop_token_ids_size(), limit::kStopTokenIds)) {
    CheckIds("stopping.stop_token_ids", s.stop_token_ids(), limits.vocabulary, v);
  }
  if (s.has_time_limit_ms()) {
    v->Range("stopping.time_limit_ms", s.time_limit_ms(), limit::kTimeLimitMs);
  }
}

void CheckResponse(const wv1::Submit& submit, Violations* v) {
  const iv1::ResponseOptions& r = submit.response();
  v->Range("response.logprobs", r.logprobs(), limit::kLogprobs);
  v->Range("response.prompt_logprobs", r.prompt_logprobs(), limit::kLogprobs);
  const uint64_t entries = (uint64_t{r.prompt_logprobs()} + 1) * submit.prompt_ids_size();
  if (r.has_prompt_logprobs() && entries > kMaxPromptLogprobs) {
    v->Add("response.prompt_logprobs",
           absl::StrCat("this prompt would give ", entries, " entries, at most ",
                        kMaxPromptLogprobs, " can be sent"));
  }
}

void CheckGuided(const iv1::GuidedParams& g, Violations* v) {
  if (g.has_json_schema()) {
    v->Bytes("guided.json_schema", g.json_schema().size(), 1, limit::kGrammarBytes);
  }
  if (g.has_regex()) v->Bytes("guided.regex", g.regex().size(), 1, limit::kRegexBytes);
  if (g.has_ebnf()) v->Bytes("guided.ebnf", g.ebnf().size(), 1, limit::kGrammarBytes);
  v->Check(g.grammar_case() != iv1::GuidedParams::kJsonObject || g.json_object(),
           "guided.json_object", "it is false; leave it out");
  if (!g.has_choice()) return;
  v->Check(g.choice().values_size() > 0, "guided.choice", "there is nothing to choose from");
  v->Count("guided.choice", g.choice().values_size(), limit::kChoices);
  for (int i = 0; i < std::min<int>(g.choice().values_size(), limit::kChoices); ++i) {
    v->Bytes(absl::StrCat("guided.choice.values[", i, "]"), g.choice().values(i).size(), 1,
             limit::kChoiceBytes);
  }
}

std::optional<GrammarSource> GrammarOf(const iv1::GuidedParams& g) {
  using Kind = GrammarSource::Kind;
  switch (g.grammar_case()) {
    case iv1::GuidedParams::kJsonSchema:
      return GrammarSource{Kind::kJsonSchema, g.json_schema(), {}};
    case iv1::GuidedParams::kRegex:
      return GrammarSource{Kind::kRegex, g.regex(), {}};
    case iv1::GuidedParams::kEbnf:
      return GrammarSource{Kind::kLark, g.ebnf(), {}};
    case iv1::GuidedParams::kChoice:
      return GrammarSource{
          Kind::kChoice, "", {g.choice().values().begin(), g.choice().values().end()}};
    case iv1::GuidedParams::kJsonObject:
      return GrammarSource{Kind::kJsonSchema, R"({"type": "object"})", {}};
    case iv1::GuidedParams::GRAMMAR_NOT_SET:
      return std::nullopt;
  }
  return std::nullopt;
}

void CheckContext(const wv1::Submit& submit, const RequestLimits& limits, Violations* v) {
  const uint64_t prompt = submit.prompt_ids_size();
  if (prompt == 0) v->Add("prompt_ids", "the prompt is empty");
  if (prompt >= limits.max_context) {
    v->Add("prompt_ids", absl::StrCat("the prompt has ", prompt, " tokens, and the context of ",
                                      limits.max_context, " needs room for an answer"));
  }
  if (!submit.stopping().has_max_tokens()) return;
  const uint64_t tokens = submit.stopping().max_tokens();
  if (tokens == 0) v->Add("stopping.max_tokens", "it is 0, want at least 1");
  if (prompt < limits.max_context && prompt + tokens > limits.max_context) {
    v->Add("stopping.max_tokens",
           absl::StrCat("prompt and max_tokens are ", prompt, " + ", tokens, " = ", prompt + tokens,
                        " tokens, and the context has ", limits.max_context));
  }
}

absl::Status CheckRanges(const wv1::Submit& submit, const RequestLimits& limits) {
  Violations v;
  v.Bytes("request_id", submit.request_id().size(), 1, limit::kRequestIdBytes);
  if (!RoleOf(submit.role())) v.Add("role", "it is none of UNIFIED, PREFILL and DECODE");
  if (submit.role() == wv1::ROLE_PREFILL) v.Bytes("peer", submit.peer().size(), 1, 512);
  CheckContext(submit, limits, &v);
  CheckIds("prompt_ids", submit.prompt_ids(), limits.vocabulary, &v);
  CheckSampling(submit.sampling(), limits, &v);
  CheckStopping(submit.stopping(), limits, &v);
  CheckGuided(submit.guided(), &v);
  CheckResponse(submit, &v);
  v.Bytes("cache.salt", submit.cache().salt().size(), 0, limit::kCacheSaltBytes);
  v.Range("priority", submit.priority(), limit::kPriority);
  return v.ToStatus();
}

absl::Status CheckHonoured(const wv1::Submit& submit) {
  const struct {
    bool asked;
    const char* field;
  } fields[] = {
      {!submit.cache_root().empty(), "cache_root"},
      {submit.resume_size() > 0, "resume"},
      {!submit.lora_name().empty(), "lora_name"},
      {!submit.traceparent().empty(), "traceparent"},
  };
  for (const auto& one : fields) {
    if (!one.asked) continue;
    return WithReason(
        absl::UnimplementedError(absl::StrCat(one.field, ": not supported yet; leave it out")),
        "FIELD_NOT_SUPPORTED", {{"field", one.field}});
  }
  return absl::OkStatus();
}

std::vector<int32_t> SortedIds(std::vector<int32_t> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::vector<int32_t> StopIds(const iv1::StoppingParams& stopping, const RequestLimits& limits) {
  std::vector<int32_t> ids(stopping.stop_token_ids().begin(), stopping.stop_token_ids().end());
  if (!stopping.ignore_eos()) {
    ids.insert(ids.end(), limits.eos_ids.begin(), limits.eos_ids.end());
  }
  return SortedIds(std::move(ids));
}

SamplingSpec SpecOf(const iv1::SamplingParams& sampling) {
  SamplingSpec spec;
  if (sampling.has_temperature()) spec.temperature = sampling.temperature();
  if (sampling.has_top_p()) spec.top_p = sampling.top_p();
  spec.top_k = sampling.top_k();
  spec.min_p = sampling.min_p();
  spec.seed = sampling.seed();
  spec.presence_penalty = sampling.presence_penalty();
  spec.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_repetition_penalty()) spec.repetition_penalty = sampling.repetition_penalty();
  spec.logit_bias.assign(sampling.logit_bias().begin(), sampling.logit_bias().end());
  spec.allowed_ids = SortedIds({sampling.allowed_token_ids().begin(),  //
                                sampling.allowed_token_ids().end()});
  return spec;
}

absl::Status CheckSomeTokenAllowed(const EngineRequest& request) {
  const std::vector<int32_t>& allowed = request.sampling.allowed_ids;
  const bool none = !allowed.empty() && request.min_tokens > 0 &&
                    std::includes(request.stop_ids.begin(), request.stop_ids.end(), allowed.begin(),
                                  allowed.end());
  Violations v;
  v.Check(!none, "sampling.allowed_token_ids",
          "all of them end the output, which stopping.min_tokens forbids");
  return v.ToStatus();
}

}  // namespace

absl::StatusOr<EngineRequest> CheckSubmit(const wv1::Submit& submit, const RequestLimits& limits,
                                          absl::Time now) {
  RETURN_IF_ERROR(CheckRanges(submit, limits));
  RETURN_IF_ERROR(CheckHonoured(submit));
  EngineRequest request;
  request.role = *RoleOf(submit.role());
  if (std::find(limits.roles.begin(), limits.roles.end(), request.role) == limits.roles.end()) {
    return absl::FailedPreconditionError(
        absl::StrCat("role: this worker is not configured for ", wv1::Role_Name(submit.role())));
  }
  request.handle = submit.handle();
  request.request_id = submit.request_id();
  request.attempt = submit.attempt();
  request.peer = submit.peer();
  request.prompt.assign(submit.prompt_ids().begin(), submit.prompt_ids().end());
  request.sampling = SpecOf(submit.sampling());
  if (submit.sampling().has_n()) request.outputs = submit.sampling().n();
  request.max_tokens = submit.stopping().has_max_tokens()
                           ? submit.stopping().max_tokens()
                           : limits.max_context - submit.prompt_ids_size();
  request.stop_ids = StopIds(submit.stopping(), limits);
  request.guided = GrammarOf(submit.guided());
  request.min_tokens = submit.stopping().min_tokens();
  RETURN_IF_ERROR(CheckSomeTokenAllowed(request));
  if (submit.stopping().has_time_limit_ms()) {
    request.time_limit = absl::Milliseconds(submit.stopping().time_limit_ms());
  }
  request.priority = submit.priority();
  request.cache_salt = submit.cache().salt();
  request.cache_bypass = submit.cache().bypass();
  if (submit.response().has_logprobs()) request.logprobs = submit.response().logprobs();
  if (submit.response().has_prompt_logprobs()) {
    request.prompt_logprobs = submit.response().prompt_logprobs();
  }
  if (submit.has_budget_ms()) {
    // A budget beyond what a time can hold is as good as none.
    constexpr uint64_t kLongest = uint64_t{366} * 24 * 3600 * 1000;
    if (submit.budget_ms() <= kLongest) {
      request.deadline = now + absl::Milliseconds(static_cast<int64_t>(submit.budget_ms()));
    }
  }
  return request;
}

}  // namespace tandem
