#include "router/api/request_check.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/field_checks.h"
#include "base/request_limits.h"
#include "base/status.h"
#include "base/violations.h"
#include "router/api/unhonoured.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

namespace limits = request_limits;

constexpr size_t kMaxEndUserId = 256, kMaxRole = 64;
constexpr int kMaxMessages = 4096, kMaxTools = 1024;

// A tool may well have returned nothing, and an assistant only called tools.
bool SaysNothing(const iv1::ChatMessage& message) {
  return message.content().empty() && message.reasoning().empty() && message.tool_calls().empty() &&
         message.tool_call_id().empty();
}

void CheckChat(const iv1::ChatInput& chat, Violations* v) {
  v->Check(chat.messages_size() > 0, "chat.messages", "the prompt is empty: there is no message");
  v->Count("chat.messages", chat.messages_size(), kMaxMessages);
  v->Count("chat.tools", chat.tools_size(), kMaxTools);
  for (int i = 0; i < std::min(chat.messages_size(), kMaxMessages); ++i) {
    const std::string field = absl::StrCat("chat.messages[", i, "]");
    v->Bytes(field + ".role", chat.messages(i).role().size(), 1, kMaxRole);
    v->Check(!SaysNothing(chat.messages(i)), field + ".content",
             "the message is empty: it has no content, reasoning, tool_calls or tool_call_id");
  }
  for (int i = 0; i < std::min(chat.tools_size(), kMaxTools); ++i) {
    v->Bytes(absl::StrCat("chat.tools[", i, "].name"), chat.tools(i).name().size(), 1, 256);
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

void CheckResponse(const iv1::ResponseOptions& r, Violations* v) {
  CheckLogprobs(r, v);
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
  v.Bytes("request_id", request.request_id().size(), 0, limits::kRequestIdBytes);
  v.Check(IsPrintable(request.request_id()), "request_id", "want printable ASCII only");
  v.Bytes("model", request.model().size(), 0, 256);
  CheckInput(request, &v);
  CheckSampling(request.sampling(), &v);
  CheckStopping(request.stopping(), &v);
  CheckGuided(request.guided(), &v);
  CheckResponse(request.response(), &v);
  v.Bytes("cache.salt", request.cache().salt().size(), 0, limits::kCacheSaltBytes);
  v.Range("priority", request.priority(), limits::kPriority);
  v.Bytes("end_user_id", request.end_user_id().size(), 0, kMaxEndUserId);
  RETURN_IF_ERROR(v.ToStatus());
  return CheckHonoured(request);
}

absl::Status CheckTokenize(const iv1::TokenizeRequest& request) {
  Violations v;
  v.Bytes("model", request.model().size(), 0, 256);
  if (request.has_chat()) {
    CheckChat(request.chat(), &v);
    v.Check(!request.has_add_special(), "add_special",
            "it is for `text`; a chat's template writes its own special tokens");
  }
  RETURN_IF_ERROR(v.ToStatus());
  return CheckHonoured(request.chat());
}

bool IsRequestId(const std::string& id) {
  return !id.empty() && id.size() <= limits::kRequestIdBytes && IsPrintable(id);
}

absl::Status CheckTokenIds(const iv1::GenerateRequest& request, uint32_t vocabulary) {
  Violations v;
  CheckVocabulary(request.sampling(), request.stopping(), vocabulary, &v);
  return v.ToStatus();
}

}  // namespace tandem
