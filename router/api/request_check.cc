#include "router/api/request_check.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "router/api/unhonoured.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

constexpr size_t kMaxViolations = 16;  // told in one error
constexpr size_t kMaxRequestId = 128, kMaxEndUserId = 256, kMaxRole = 64, kMaxSalt = 128;
constexpr int kMaxMessages = 4096, kMaxTools = 1024;
constexpr int kMaxStops = 16, kMaxStopIds = 64, kMaxIdEntries = 1024, kMaxChoices = 256;
constexpr size_t kMaxStopBytes = 256, kMaxGrammar = 64 << 10, kMaxRegex = 16 << 10;
constexpr size_t kMaxChoiceBytes = 1 << 10;

// Collects what is wrong, so that a client learns all of it at once.
class Violations {
 public:
  void Add(std::string field, std::string why) {
    found_.push_back({std::move(field), std::move(why)});
  }
  void Check(bool ok, absl::string_view field, absl::string_view why) {
    if (!ok) Add(std::string(field), std::string(why));
  }
  void Length(absl::string_view field, size_t bytes, size_t min, size_t max) {
    if (bytes >= min && bytes <= max) return;
    Add(std::string(field), absl::StrCat("it has ", bytes, " bytes; want ", min, " to ", max));
  }
  void Count(absl::string_view field, int entries, int max) {
    if (entries <= max) return;
    Add(std::string(field), absl::StrCat("it has ", entries, " entries; at most ", max));
  }
  // NaN is in no range.
  void Range(absl::string_view field, double value, double low, double high) {
    if (value >= low && value <= high) return;
    Add(std::string(field), absl::StrCat("it is ", value, "; want ", low, " to ", high));
  }
  void Above(absl::string_view field, double value, double low, double high) {
    if (value > low && value <= high) return;
    Add(std::string(field),
        absl::StrCat("it is ", value, "; want above ", low, ", and at most ", high));
  }

  absl::Status status() const {
    if (found_.empty()) return absl::OkStatus();
    absl::Status out = absl::InvalidArgumentError(absl::StrCat(
        found_[0].field, ": ", found_[0].why,
        found_.size() > 1 ? absl::StrCat(" (and ", found_.size() - 1, " more wrong fields)") : ""));
    for (size_t i = 0; i < std::min(found_.size(), kMaxViolations); ++i) {
      out = WithFieldViolation(out, found_[i].field, found_[i].why);
    }
    return out;
  }

 private:
  struct Violation {
    std::string field, why;
  };
  std::vector<Violation> found_;
};

void CheckChat(const iv1::ChatInput& chat, Violations* v) {
  v->Check(chat.messages_size() > 0, "chat.messages", "the prompt is empty: there is no message");
  v->Count("chat.messages", chat.messages_size(), kMaxMessages);
  v->Count("chat.tools", chat.tools_size(), kMaxTools);
  for (int i = 0; i < std::min(chat.messages_size(), kMaxMessages); ++i) {
    v->Length(absl::StrCat("chat.messages[", i, "].role"), chat.messages(i).role().size(), 1,
              kMaxRole);
  }
  for (int i = 0; i < std::min(chat.tools_size(), kMaxTools); ++i) {
    v->Length(absl::StrCat("chat.tools[", i, "].name"), chat.tools(i).name().size(), 1, 256);
  }
  const bool none = chat.tool_choice().mode() == iv1::ToolChoice::MODE_NONE;
  v->Check(!none || chat.tool_choice().name().empty(), "chat.tool_choice",
           "it names a tool and forbids all tools");
}

void CheckInput(const iv1::GenerateRequest& request, Violations* v) {
  switch (request.input_case()) {
    case iv1::GenerateRequest::kText:
      v->Check(!request.text().empty(), "text", "the prompt is empty");
      break;
    case iv1::GenerateRequest::kTokenIds:
      v->Check(request.token_ids().ids_size() > 0, "token_ids.ids", "the prompt is empty");
      break;
    case iv1::GenerateRequest::kChat:
      CheckChat(request.chat(), v);
      break;
    case iv1::GenerateRequest::INPUT_NOT_SET:
      v->Add("input", "the prompt is missing: send `text`, `token_ids` or `chat`");
      break;
  }
  if (request.has_truncate_prompt_tokens()) {
    v->Check(request.truncate_prompt_tokens() > 0, "truncate_prompt_tokens", "want at least 1");
  }
}

void CheckSampling(const iv1::SamplingParams& s, Violations* v) {
  if (s.has_temperature()) v->Range("sampling.temperature", s.temperature(), 0, 100);
  if (s.has_top_p()) v->Above("sampling.top_p", s.top_p(), 0, 1);
  if (s.has_min_p()) v->Range("sampling.min_p", s.min_p(), 0, 1);
  v->Range("sampling.presence_penalty", s.presence_penalty(), -2, 2);
  v->Range("sampling.frequency_penalty", s.frequency_penalty(), -2, 2);
  if (s.has_repetition_penalty()) {
    v->Above("sampling.repetition_penalty", s.repetition_penalty(), 0, 10);
  }
  if (s.has_n()) v->Range("sampling.n", s.n(), 1, 8);
  v->Count("sampling.logit_bias", static_cast<int>(s.logit_bias_size()), kMaxIdEntries);
  for (const auto& [id, bias] : s.logit_bias()) {
    v->Range(absl::StrCat("sampling.logit_bias[", id, "]"), bias, -100, 100);
  }
  v->Count("sampling.allowed_token_ids", s.allowed_token_ids_size(), kMaxIdEntries);
}

void CheckStopping(const iv1::StoppingParams& s, Violations* v) {
  if (s.has_max_tokens()) {
    v->Check(s.max_tokens() > 0, "stopping.max_tokens", "want at least 1");
    v->Check(s.min_tokens() <= s.max_tokens(), "stopping.min_tokens",
             absl::StrCat("it is ", s.min_tokens(), ", more than max_tokens, ", s.max_tokens()));
  }
  v->Count("stopping.stop", s.stop_size(), kMaxStops);
  for (int i = 0; i < std::min(s.stop_size(), kMaxStops); ++i) {
    v->Length(absl::StrCat("stopping.stop[", i, "]"), s.stop(i).size(), 1, kMaxStopBytes);
  }
  v->Count("stopping.stop_token_ids", s.stop_token_ids_size(), kMaxStopIds);
  if (s.has_time_limit_ms()) v->Range("stopping.time_limit_ms", s.time_limit_ms(), 1, 3'600'000);
}

void CheckGuided(const iv1::GuidedParams& g, Violations* v) {
  if (g.has_json_schema()) {
    v->Length("guided.json_schema", g.json_schema().size(), 1, kMaxGrammar);
  }
  if (g.has_regex()) v->Length("guided.regex", g.regex().size(), 1, kMaxRegex);
  if (g.has_ebnf()) v->Length("guided.ebnf", g.ebnf().size(), 1, kMaxGrammar);
  if (!g.has_choice()) return;
  v->Check(g.choice().values_size() > 0, "guided.choice", "there is nothing to choose from");
  v->Count("guided.choice", g.choice().values_size(), kMaxChoices);
  for (int i = 0; i < std::min(g.choice().values_size(), kMaxChoices); ++i) {
    v->Length(absl::StrCat("guided.choice.values[", i, "]"), g.choice().values(i).size(), 1,
              kMaxChoiceBytes);
  }
}

void CheckResponse(const iv1::ResponseOptions& r, Violations* v) {
  v->Range("response.logprobs", r.logprobs(), 0, 20);
  v->Range("response.prompt_logprobs", r.prompt_logprobs(), 0, 20);
  v->Check(!r.no_text() || r.token_ids() || r.has_logprobs(), "response.no_text",
           "without text, token ids and logprobs nothing is left to send; set response.token_ids");
}

bool IsPrintable(const std::string& text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isprint(c); });
}

}  // namespace

absl::Status CheckRequest(const iv1::GenerateRequest& request) {
  Violations v;
  v.Length("request_id", request.request_id().size(), 0, kMaxRequestId);
  v.Check(IsPrintable(request.request_id()), "request_id", "want printable ASCII only");
  v.Length("model", request.model().size(), 0, 256);
  CheckInput(request, &v);
  CheckSampling(request.sampling(), &v);
  CheckStopping(request.stopping(), &v);
  CheckGuided(request.guided(), &v);
  CheckResponse(request.response(), &v);
  v.Length("cache.salt", request.cache().salt().size(), 0, kMaxSalt);
  v.Range("priority", request.priority(), -100, 100);
  v.Length("end_user_id", request.end_user_id().size(), 0, kMaxEndUserId);
  RETURN_IF_ERROR(v.status());
  return CheckHonoured(request);
}

absl::Status CheckTokenize(const iv1::TokenizeRequest& request) {
  Violations v;
  v.Length("model", request.model().size(), 0, 256);
  if (request.has_chat()) {
    CheckChat(request.chat(), &v);
    v.Check(!request.has_add_special(), "add_special",
            "it is for `text`; a chat's template writes its own special tokens");
  }
  RETURN_IF_ERROR(v.status());
  return CheckHonoured(request.chat());
}

bool IsRequestId(const std::string& id) {
  return !id.empty() && id.size() <= kMaxRequestId && IsPrintable(id);
}

absl::Status CheckTokenIds(const iv1::GenerateRequest& request, uint32_t vocabulary) {
  Violations v;
  const auto& ids = request.stopping().stop_token_ids();
  for (int i = 0; i < ids.size(); ++i) {
    v.Check(
        ids[i] >= 0 && static_cast<uint32_t>(ids[i]) < vocabulary,
        absl::StrCat("stopping.stop_token_ids[", i, "]"),
        absl::StrCat("token id ", ids[i], " is outside of the vocabulary, 0 to ", vocabulary - 1));
  }
  return v.status();
}

}  // namespace tandem
