#include "worker/service/request_check.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/field_checks.h"
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

void CheckPromptIds(const wv1::Submit& submit, uint32_t vocabulary, Violations* v) {
  const auto& ids = submit.prompt_ids();
  const auto wrong = std::find_if(ids.begin(), ids.end(), [vocabulary](int32_t id) {
    return id < 0 || static_cast<uint32_t>(id) >= vocabulary;
  });
  if (wrong == ids.end()) return;
  v->Add(absl::StrCat("prompt_ids[", wrong - ids.begin(), "]"),
         absl::StrCat("token id ", *wrong, " is outside of the vocabulary, 0 to ", vocabulary - 1));
}

void CheckResponse(const wv1::Submit& submit, Violations* v) {
  const iv1::ResponseOptions& r = submit.response();
  CheckLogprobs(r, v);
  const uint64_t entries = (uint64_t{r.prompt_logprobs()} + 1) * submit.prompt_ids_size();
  if (r.has_prompt_logprobs() && entries > kMaxPromptLogprobs) {
    v->Add("response.prompt_logprobs",
           absl::StrCat("this prompt would give ", entries, " entries, at most ",
                        kMaxPromptLogprobs, " can be sent"));
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
  if (prompt < limits.max_context && prompt + tokens > limits.max_context) {
    v->Add("stopping.max_tokens",
           absl::StrCat("prompt and max_tokens are ", prompt, " + ", tokens, " = ", prompt + tokens,
                        " tokens, and the context has ", limits.max_context));
  }
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

uint32_t OutputsOf(const wv1::Submit& submit) {
  return submit.sampling().has_n() ? submit.sampling().n() : 1;
}

uint64_t MaxTokensOf(const wv1::Submit& submit, const RequestLimits& limits) {
  const uint64_t prompt = submit.prompt_ids_size();
  const uint64_t left = limits.max_context - std::min<uint64_t>(prompt, limits.max_context);
  if (!submit.stopping().has_max_tokens()) return left;
  return std::min<uint64_t>(submit.stopping().max_tokens(), left);
}

// Of an output that runs none may be its last.
void CheckResumedIds(const wv1::ResumedOutput& one, const std::vector<int32_t>& stop_ids,
                     const RequestLimits& limits, const std::string& field, Violations* v) {
  for (int i = 0; i < one.token_ids_size(); ++i) {
    const int32_t id = one.token_ids(i);
    const bool outside = id < 0 || static_cast<uint32_t>(id) >= limits.vocabulary;
    const bool last = !one.ended() && std::binary_search(stop_ids.begin(), stop_ids.end(), id);
    if (!outside && !last) continue;
    const std::string outside_of = absl::StrCat("outside of the vocabulary, 0 to ",  //
                                                limits.vocabulary - 1);
    return v->Add(absl::StrCat(field, ".token_ids[", i, "]"),
                  absl::StrCat("token id ", id, " is ",
                               outside ? outside_of : "one that ends the output: it has ended"));
  }
}

void CheckResumed(const wv1::Submit& submit, const RequestLimits& limits, Violations* v) {
  if (OutputsOf(submit) > limit::kN.max) return;  // which is told already
  const uint32_t outputs = OutputsOf(submit);
  if (!v->Count("resume", submit.resume_size(), outputs)) return;
  const uint64_t max_tokens = MaxTokensOf(submit, limits);
  const std::vector<int32_t> stop_ids = StopIds(submit.stopping(), limits);
  std::vector<bool> named(outputs);
  uint32_t ended = 0;
  for (int i = 0; i < submit.resume_size(); ++i) {
    const wv1::ResumedOutput& one = submit.resume(i);
    const std::string field = absl::StrCat("resume[", i, "]");
    const uint32_t output = one.output_index();
    if (output >= outputs || named[output]) {
      v->Add(absl::StrCat(field, ".output_index"),
             output >= outputs ? absl::StrCat("it is ", output, ", want 0 to ", outputs - 1)
                               : absl::StrCat("output ", output, " is named twice"));
    } else {
      named[output] = true;
      ended += one.ended();
    }
    const uint64_t tokens = one.token_ids_size();
    if (one.ended() ? tokens > max_tokens : tokens > 0 && tokens >= max_tokens) {
      v->Add(absl::StrCat(field, ".token_ids"),
             absl::StrCat("they are ", tokens, ", and max_tokens and the context allow ",
                          max_tokens, " in all"));
    }
    CheckResumedIds(one, stop_ids, limits, field, v);
  }
  v->Check(ended < outputs, "resume", "all outputs have ended");
}

absl::Status CheckRanges(const wv1::Submit& submit, const RequestLimits& limits) {
  Violations v;
  v.Bytes("request_id", submit.request_id().size(), 1, limit::kRequestIdBytes);
  if (!RoleOf(submit.role())) v.Add("role", "it is none of UNIFIED, PREFILL and DECODE");
  if (submit.role() == wv1::ROLE_PREFILL) v.Bytes("peer", submit.peer().size(), 1, 512);
  CheckContext(submit, limits, &v);
  CheckPromptIds(submit, limits.vocabulary, &v);
  CheckSampling(submit.sampling(), &v);
  CheckStopping(submit.stopping(), &v);
  CheckVocabulary(submit.sampling(), submit.stopping(), limits.vocabulary, &v);
  CheckGuided(submit.guided(), &v);
  CheckResponse(submit, &v);
  if (submit.resume_size() > 0) CheckResumed(submit, limits, &v);
  v.Bytes("cache.salt", submit.cache().salt().size(), 0, limit::kCacheSaltBytes);
  v.Range("priority", submit.priority(), limit::kPriority);
  return v.ToStatus();
}

bool IsResumed(const wv1::Submit& submit) {
  return std::any_of(
      submit.resume().begin(), submit.resume().end(),
      [](const wv1::ResumedOutput& one) { return one.ended() || one.token_ids_size() > 0; });
}

absl::Status CheckHonoured(const wv1::Submit& submit) {
  const struct {
    bool asked;
    const char* field;
  } fields[] = {
      {!submit.cache_root().empty(), "cache_root"},
      {!submit.lora_name().empty(), "lora_name"},
      {!submit.traceparent().empty(), "traceparent"},
  };
  for (const auto& one : fields) {
    if (!one.asked) continue;
    return WithReason(
        absl::UnimplementedError(absl::StrCat(one.field, ": not supported yet; leave it out")),
        "FIELD_NOT_SUPPORTED", {{"field", one.field}});
  }
  if (submit.role() == wv1::ROLE_UNIFIED || OutputsOf(submit) == 1 || !IsResumed(submit)) {
    return absl::OkStatus();
  }
  return WithReason(absl::UnimplementedError("resume: several outputs go on only as ROLE_UNIFIED"),
                    "FIELD_NOT_SUPPORTED", {{"field", "resume"}});
}

std::vector<ResumedOutput> ResumedOf(const wv1::Submit& submit) {
  if (!IsResumed(submit)) return {};
  std::vector<ResumedOutput> outputs(OutputsOf(submit));
  for (const wv1::ResumedOutput& one : submit.resume()) {
    outputs[one.output_index()] = {{one.token_ids().begin(), one.token_ids().end()}, one.ended()};
  }
  return outputs;
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
  request.outputs = OutputsOf(submit);
  request.max_tokens = static_cast<uint32_t>(MaxTokensOf(submit, limits));
  request.resume = ResumedOf(submit);
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
