#include "router/prompt/prompt.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "router/prompt/chat_json.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

absl::Status Wrong(absl::string_view field, absl::string_view why) {
  return WithFieldViolation(absl::InvalidArgumentError(absl::StrCat(field, ": ", why)), field, why);
}

// An error of text/, which knows nothing of fields.
absl::Status AboutField(const absl::Status& status, absl::string_view field) {
  if (status.code() != absl::StatusCode::kInvalidArgument) return status;
  return Wrong(field, status.message());
}

absl::Status CheckBytes(size_t bytes, size_t limit, absl::string_view field) {
  if (bytes <= limit) return absl::OkStatus();
  return Wrong(field, absl::StrCat("the prompt has ", bytes, " bytes; at most ", limit));
}

absl::StatusOr<RenderedPrompt> Render(const TextModel& model, const iv1::ChatInput& chat,
                                      size_t max_bytes, absl::Time now) {
  if (model.chat_template == nullptr) {
    return Wrong("chat", "the model has no chat template; send `text` or `token_ids`");
  }
  // All of it, since a template may write tool calls, tools and variables too.
  RETURN_IF_ERROR(CheckBytes(chat.ByteSizeLong(), max_bytes, "chat"));
  ASSIGN_OR_RETURN(ChatRequest request, ToChatRequest(chat));
  request.special_tokens = model.special_tokens;
  request.now = now;
  absl::StatusOr<RenderedPrompt> rendered = model.chat_template->Render(request, *model.tokenizer);
  if (!rendered.ok()) return AboutField(rendered.status(), "chat");
  RETURN_IF_ERROR(CheckBytes(rendered->text.size(), max_bytes, "chat"));
  return rendered;
}

absl::StatusOr<std::vector<int32_t>> EncodeText(const TextModel& model, const std::string& text,
                                                bool add_special, size_t max_bytes) {
  RETURN_IF_ERROR(CheckBytes(text.size(), max_bytes, "text"));
  auto ids = model.tokenizer->Encode(text, {.add_special = add_special, .parse_special = false});
  if (!ids.ok()) return AboutField(ids.status(), "text");
  return ids;
}

absl::StatusOr<std::vector<int32_t>> EncodeChat(const TextModel& model, const iv1::ChatInput& chat,
                                                size_t max_bytes, absl::Time now) {
  ASSIGN_OR_RETURN(const RenderedPrompt rendered, Render(model, chat, max_bytes, now));
  auto ids = model.tokenizer->EncodePrompt(rendered);
  if (!ids.ok()) return AboutField(ids.status(), "chat");
  return ids;
}

absl::StatusOr<std::vector<int32_t>> CheckIds(const iv1::TokenIds& given, uint32_t vocabulary) {
  for (int i = 0; i < given.ids_size(); ++i) {
    if (given.ids(i) < 0 || static_cast<uint32_t>(given.ids(i)) >= vocabulary) {
      return Wrong(absl::StrCat("token_ids.ids[", i, "]"),
                   absl::StrCat("token id ", given.ids(i), " is outside of the vocabulary, 0 to ",
                                vocabulary - 1));
    }
  }
  return std::vector<int32_t>(given.ids().begin(), given.ids().end());
}

absl::StatusOr<std::vector<int32_t>> Encode(const TextModel& model,
                                            const iv1::GenerateRequest& request,
                                            const PromptLimits& limits, absl::Time now) {
  switch (request.input_case()) {
    case iv1::GenerateRequest::kText:
      if (request.text().empty()) return Wrong("text", "the prompt is empty");
      return EncodeText(model, request.text(), /*add_special=*/true, limits.max_prompt_bytes);
    case iv1::GenerateRequest::kChat:
      return EncodeChat(model, request.chat(), limits.max_prompt_bytes, now);
    case iv1::GenerateRequest::kTokenIds:
      return CheckIds(request.token_ids(), limits.vocabulary);
    case iv1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return Wrong("input", "the prompt is missing: send `text`, `token_ids` or `chat`");
}

std::string InputField(const iv1::GenerateRequest& request) {
  if (request.has_chat()) return "chat";
  return request.has_text() ? "text" : "token_ids";
}

// As asked, else the default, which must not be what makes a request too large for its worker, and
// leaves room for what the output must have at least.
uint32_t MaxTokens(const iv1::GenerateRequest& request, const PromptLimits& limits,
                   size_t prompt_tokens) {
  if (request.stopping().has_max_tokens()) return request.stopping().max_tokens();
  uint64_t usual = limits.default_max_tokens == 0 ? UINT32_MAX : limits.default_max_tokens;
  if (prompt_tokens < limits.worker_tokens) {  // else refused by placement, with numbers
    usual = std::min(usual, limits.worker_tokens - prompt_tokens);
  }
  return std::max(static_cast<uint32_t>(usual), request.stopping().min_tokens());
}

}  // namespace

absl::StatusOr<Prompt> MakePrompt(const TextModel& model, const iv1::GenerateRequest& request,
                                  const PromptLimits& limits, absl::Time now) {
  Prompt out;
  ASSIGN_OR_RETURN(out.ids, Encode(model, request, limits, now));
  if (request.has_truncate_prompt_tokens() && out.ids.size() > request.truncate_prompt_tokens()) {
    out.ids.erase(out.ids.begin(), out.ids.end() - request.truncate_prompt_tokens());
  }
  const std::string field = InputField(request);
  if (out.ids.empty()) return Wrong(field, "the prompt is empty");
  if (out.ids.size() >= limits.max_context) {
    return Wrong(field, absl::StrCat("the prompt has ", out.ids.size(),
                                     " tokens; the model's context has room for ",
                                     limits.max_context, ", one of them for the answer"));
  }
  const uint32_t left = limits.max_context - static_cast<uint32_t>(out.ids.size());
  out.max_tokens = std::min(MaxTokens(request, limits, out.ids.size()), left);
  return out;
}

absl::StatusOr<TokenizedText> TokenizeInput(const TextModel& model,
                                            const iv1::TokenizeRequest& request,
                                            size_t max_prompt_bytes, absl::Time now) {
  TokenizedText out;
  if (request.has_text()) {
    const bool add_special = !request.has_add_special() || request.add_special();
    ASSIGN_OR_RETURN(out.ids, EncodeText(model, request.text(), add_special, max_prompt_bytes));
    return out;
  }
  if (!request.has_chat()) return Wrong("input", "send `text` or `chat`");
  ASSIGN_OR_RETURN(RenderedPrompt rendered, Render(model, request.chat(), max_prompt_bytes, now));
  auto ids = model.tokenizer->EncodePrompt(rendered);
  if (!ids.ok()) return AboutField(ids.status(), "chat");
  out.ids = *std::move(ids);
  out.rendered = std::move(rendered.text);
  return out;
}

iv1::SamplingParams ResolveSampling(const iv1::SamplingParams& asked,
                                    const GenerationDefaults& defaults, uint64_t seed) {
  iv1::SamplingParams out = asked;
  if (!out.has_temperature()) out.set_temperature(defaults.temperature.value_or(1.0f));
  if (!out.has_top_p()) out.set_top_p(defaults.top_p.value_or(1.0f));
  if (!out.has_top_k()) out.set_top_k(defaults.top_k.value_or(0));
  if (!out.has_min_p()) out.set_min_p(defaults.min_p.value_or(0.0f));
  if (!out.has_repetition_penalty()) {
    out.set_repetition_penalty(defaults.repetition_penalty.value_or(1.0f));
  }
  if (!out.has_seed()) out.set_seed(seed);
  return out;
}

}  // namespace tandem
