#include "base/field_checks.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/request_limits.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace limits = request_limits;

void CheckId(absl::string_view field, int64_t key, int32_t id, uint32_t vocabulary, Violations* v) {
  if (id >= 0 && static_cast<uint32_t>(id) < vocabulary) return;
  v->Add(absl::StrCat(field, "[", key, "]"),
         absl::StrCat("token id ", id, " is outside of the vocabulary, 0 to ", vocabulary - 1));
}

void CheckIds(absl::string_view field, const google::protobuf::RepeatedField<int32_t>& ids,
              size_t most, uint32_t vocabulary, Violations* v) {
  if (static_cast<size_t>(ids.size()) > most) return;
  for (int i = 0; i < ids.size(); ++i) CheckId(field, i, ids[i], vocabulary, v);
}

}  // namespace

void CheckSampling(const iv1::SamplingParams& s, Violations* v) {
  if (s.has_temperature()) v->Range("sampling.temperature", s.temperature(), limits::kTemperature);
  if (s.has_top_p()) v->Range("sampling.top_p", s.top_p(), limits::kTopP);
  if (s.has_min_p()) v->Range("sampling.min_p", s.min_p(), limits::kMinP);
  v->Range("sampling.presence_penalty", s.presence_penalty(), limits::kPresencePenalty);
  v->Range("sampling.frequency_penalty", s.frequency_penalty(), limits::kFrequencyPenalty);
  if (s.has_repetition_penalty()) {
    v->Range("sampling.repetition_penalty", s.repetition_penalty(), limits::kRepetitionPenalty);
  }
  if (s.has_n()) v->Range("sampling.n", s.n(), limits::kN);
  if (v->Count("sampling.logit_bias", s.logit_bias_size(), limits::kTokenIdEntries)) {
    for (const auto& [id, bias] : s.logit_bias()) {
      v->Range(absl::StrCat("sampling.logit_bias[", id, "]"), bias, limits::kLogitBias);
    }
  }
  v->Count("sampling.allowed_token_ids", s.allowed_token_ids_size(), limits::kTokenIdEntries);
}

void CheckStopping(const iv1::StoppingParams& s, Violations* v) {
  if (s.has_max_tokens()) {
    v->Check(s.max_tokens() > 0, "stopping.max_tokens", "it is 0, want at least 1");
    v->Check(s.min_tokens() <= s.max_tokens(), "stopping.min_tokens",
             absl::StrCat("it is ", s.min_tokens(), ", more than max_tokens, ", s.max_tokens()));
  }
  if (v->Count("stopping.stop", s.stop_size(), limits::kStops)) {
    for (int i = 0; i < s.stop_size(); ++i) {
      v->Bytes(absl::StrCat("stopping.stop[", i, "]"), s.stop(i).size(), 1, limits::kStopBytes);
    }
  }
  v->Count("stopping.stop_token_ids", s.stop_token_ids_size(), limits::kStopTokenIds);
  if (s.has_time_limit_ms()) {
    v->Range("stopping.time_limit_ms", s.time_limit_ms(), limits::kTimeLimitMs);
  }
}

void CheckGuided(const iv1::GuidedParams& g, Violations* v) {
  if (g.has_json_schema()) {
    v->Bytes("guided.json_schema", g.json_schema().size(), 1, limits::kGrammarBytes);
  }
  if (g.has_regex()) v->Bytes("guided.regex", g.regex().size(), 1, limits::kRegexBytes);
  if (g.has_ebnf()) v->Bytes("guided.ebnf", g.ebnf().size(), 1, limits::kGrammarBytes);
  v->Check(g.grammar_case() != iv1::GuidedParams::kJsonObject || g.json_object(),
           "guided.json_object", "it is false; leave it out");
  if (!g.has_choice()) return;
  v->Check(g.choice().values_size() > 0, "guided.choice", "there is nothing to choose from");
  if (!v->Count("guided.choice", g.choice().values_size(), limits::kChoices)) return;
  for (int i = 0; i < g.choice().values_size(); ++i) {
    v->Bytes(absl::StrCat("guided.choice.values[", i, "]"), g.choice().values(i).size(), 1,
             limits::kChoiceBytes);
  }
}

void CheckLogprobs(const iv1::ResponseOptions& r, Violations* v) {
  v->Range("response.logprobs", r.logprobs(), limits::kLogprobs);
  v->Range("response.prompt_logprobs", r.prompt_logprobs(), limits::kLogprobs);
}

void CheckVocabulary(const iv1::SamplingParams& sampling, const iv1::StoppingParams& stopping,
                     uint32_t vocabulary, Violations* v) {
  CheckIds("stopping.stop_token_ids", stopping.stop_token_ids(), limits::kStopTokenIds, vocabulary,
           v);
  CheckIds("sampling.allowed_token_ids", sampling.allowed_token_ids(), limits::kTokenIdEntries,
           vocabulary, v);
  if (static_cast<size_t>(sampling.logit_bias_size()) > limits::kTokenIdEntries) return;
  for (const auto& [id, bias] : sampling.logit_bias()) {
    CheckId("sampling.logit_bias", id, id, vocabulary, v);
  }
}

}  // namespace tandem
