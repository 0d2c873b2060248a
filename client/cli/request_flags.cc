#include "client/cli/request_flags.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/status.h"
#include "client/cli/endpoint_flags.h"
#include "client/cli/flag_value.h"

namespace tandem::cli {
namespace {

namespace v1 = inference::v1;

using Text = absl::string_view;
using Request = v1::GenerateRequest;
using Sampling = v1::SamplingParams;
using Stopping = v1::StoppingParams;

template <typename Message, typename T>
absl::Status Whole(Text text, Message* to, void (Message::*set)(T)) {
  ASSIGN_OR_RETURN(const T value, ParseWhole<T>(text));
  (to->*set)(value);
  return absl::OkStatus();
}

template <typename Message>
absl::Status Real(Text text, Message* to, void (Message::*set)(float)) {
  ASSIGN_OR_RETURN(const float value, ParseReal(text));
  (to->*set)(value);
  return absl::OkStatus();
}

absl::Status Ids(Text text, google::protobuf::RepeatedField<int32_t>* to) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseIds(text));
  *to = {ids.begin(), ids.end()};
  return absl::OkStatus();
}

absl::Status Biases(Text text, Sampling* to) {
  to->clear_logit_bias();
  for (const Text entry : absl::StrSplit(text, ',')) {
    const std::pair<Text, Text> bias = absl::StrSplit(entry, absl::MaxSplits('=', 1));
    ASSIGN_OR_RETURN(const int32_t id, ParseWhole<int32_t>(bias.first));
    ASSIGN_OR_RETURN((*to->mutable_logit_bias())[id], ParseReal(bias.second));
  }
  return absl::OkStatus();
}

struct Row {
  const char* name;
  const char* value;  // as --help names it; empty: a switch
  const char* doc;
  absl::Status (*set)(Text text, Request* to);
};

// clang-format off
constexpr Row kRows[] = {
    {"model", "NAME", "may be left out where one model is served",
     [](Text t, Request* r) { r->set_model(std::string(t)); return absl::OkStatus(); }},
    {"max-tokens", "N", "tokens to produce at most",
     [](Text t, Request* r) { return Whole(t, r->mutable_stopping(), &Stopping::set_max_tokens); }},
    {"min-tokens", "N", "nothing but --max-tokens ends the answer before so many",
     [](Text t, Request* r) { return Whole(t, r->mutable_stopping(), &Stopping::set_min_tokens); }},
    {"time-limit", "MS", "the answer ends after so many milliseconds",
     [](Text t, Request* r) {
       return Whole(t, r->mutable_stopping(), &Stopping::set_time_limit_ms);
     }},
    {"stop", "TEXT", "ends the answer; may be given more than once",
     [](Text t, Request* r) {
       r->mutable_stopping()->add_stop(std::string(t));
       return absl::OkStatus();
     }},
    {"stop-ids", "1,2,3", "token ids that end the answer",
     [](Text t, Request* r) {
       return Ids(t, r->mutable_stopping()->mutable_stop_token_ids());
     }},
    {"temperature", "T", "0 is greedy; default: the model's",
     [](Text t, Request* r) { return Real(t, r->mutable_sampling(), &Sampling::set_temperature); }},
    {"top-p", "P", "keep the likeliest tokens up to this probability",
     [](Text t, Request* r) { return Real(t, r->mutable_sampling(), &Sampling::set_top_p); }},
    {"top-k", "K", "keep the K likeliest tokens; 0 keeps all",
     [](Text t, Request* r) { return Whole(t, r->mutable_sampling(), &Sampling::set_top_k); }},
    {"min-p", "P", "keep tokens with P times the probability of the likeliest, or more",
     [](Text t, Request* r) { return Real(t, r->mutable_sampling(), &Sampling::set_min_p); }},
    {"presence-penalty", "X", "against tokens that are in the answer, once; -2 to 2",
     [](Text t, Request* r) {
       return Real(t, r->mutable_sampling(), &Sampling::set_presence_penalty);
     }},
    {"frequency-penalty", "X", "the same, for each time that they are; -2 to 2",
     [](Text t, Request* r) {
       return Real(t, r->mutable_sampling(), &Sampling::set_frequency_penalty);
     }},
    {"repetition-penalty", "X", "against tokens of prompt and answer; 1 is none, at most 10",
     [](Text t, Request* r) {
       return Real(t, r->mutable_sampling(), &Sampling::set_repetition_penalty);
     }},
    {"logit-bias", "ID=X,ID=X", "added to the logits of these tokens; -100 to 100",
     [](Text t, Request* r) { return Biases(t, r->mutable_sampling()); }},
    {"allowed-ids", "1,2,3", "no other tokens can be drawn",
     [](Text t, Request* r) {
       return Ids(t, r->mutable_sampling()->mutable_allowed_token_ids());
     }},
    {"n", "N", "answers to one prompt, printed one after another; 1 to 8",
     [](Text t, Request* r) { return Whole(t, r->mutable_sampling(), &Sampling::set_n); }},
    {"seed", "S", "the same seed gives the same answer",
     [](Text t, Request* r) { return Whole(t, r->mutable_sampling(), &Sampling::set_seed); }},
    {"cache-salt", "TEXT", "share the prefix cache with requests of this salt only",
     [](Text t, Request* r) {
       r->mutable_cache()->set_salt(std::string(t));
       return absl::OkStatus();
     }},
    {"cache-bypass", "", "neither use nor fill the prefix cache",
     [](Text, Request* r) { r->mutable_cache()->set_bypass(true); return absl::OkStatus(); }},
};
// clang-format on

}  // namespace

void RequestFlags::Declare(Flags* flags) {
  DeclareEndpoint(flags, &connection_);
  for (const Row& row : kRows) {
    flags->Add(row.name, row.value, row.doc,
               [this, set = row.set](absl::string_view text) { return set(text, &request_); });
  }
}

}  // namespace tandem::cli
