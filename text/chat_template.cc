#include "text/chat_template.h"

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "text/rust.h"

namespace tandem {

using text_internal::Data;
using text_internal::FromRust;
using text_internal::RustBytes;
using text_internal::RustIds;

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Compile(
    absl::string_view source) {
  tt_template* handle = nullptr;
  RustBytes error;
  RETURN_IF_ERROR(Annotate(
      FromRust(tt_template_compile(Data(source), source.size(), &handle, error.out()), error),
      "chat template"));
  return std::shared_ptr<const ChatTemplate>(new ChatTemplate(handle));
}

ChatTemplate::~ChatTemplate() { tt_template_free(handle_); }

absl::StatusOr<RenderedPrompt> ChatTemplate::Render(const ChatRequest& request,
                                                    const Tokenizer& tokenizer) const {
  const std::string special_tokens =
      nlohmann::json(request.special_tokens)
          .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const auto text = [](absl::string_view json) { return tt_text{Data(json), json.size()}; };
  const tt_chat chat = {
      .messages = text(request.messages_json),
      .tools = text(request.tools_json),
      .documents = text(request.documents_json),
      .variables = text(request.variables_json),
      .special_tokens = text(special_tokens),
      .now_unix_s = absl::ToUnixSeconds(request.now),
      .utc_offset_s = static_cast<int32_t>(absl::ToInt64Seconds(request.utc_offset)),
      .add_generation_prompt = request.add_generation_prompt,
  };
  RustBytes prompt;
  RustIds barriers;
  RustBytes error;
  RETURN_IF_ERROR(Annotate(FromRust(tt_template_render(handle_, tokenizer.handle(), &chat,
                                                       prompt.out(), barriers.out(), error.out()),
                                    error),
                           "chat template"));
  return RenderedPrompt{std::string(prompt.view()), barriers.Copy<uint32_t>()};
}

}  // namespace tandem
