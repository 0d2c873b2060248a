#pragma once
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "text/tokenizer.h"

struct tt_template;

namespace tandem {

// What a chat template sees. The JSON fields are a caller's text, in the order of keys given:
// look-alikes of special tokens in them stay text.
struct ChatRequest {
  // A list of {"role": ..., "content": ...} as OpenAI and transformers have them. Reasoning may be
  // named reasoning_content or thinking: the template gets both. A message of the role "assistant"
  // keeps added tokens that are not special, such as <think>, as tokens.
  std::string messages_json;
  std::string tools_json = "null";      // a list of {"type": "function", "function": {...}}
  std::string documents_json = "null";  // a list
  std::string variables_json = "{}";    // extra variables, e.g. {"enable_thinking": false}
  // The model's own, e.g. {"bos_token", "<s>"}; they are never taken for a caller's text.
  std::map<std::string, std::string> special_tokens;
  bool add_generation_prompt = true;
  absl::Time now;                                    // what strftime_now() shows
  absl::Duration utc_offset = absl::ZeroDuration();  // of the zone in which it shows it, east > 0
};

// A Jinja chat template of a model, rendered as transformers does. Templates are a stranger's
// programs: one render may take 200 ms, nest 64 deep and write 8 MiB; instructions and memory are
// bounded too.
//   life    immutable, shared
//   errors  InvalidArgument: a syntax error; JSON of the wrong shape (names the field); a limit; an
//           error in the template on this input; raise_exception(), with the template's words
//   threads all methods may run at once
class ChatTemplate {
 public:
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Compile(absl::string_view source);
  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // For tokenizer.EncodePrompt(); `tokenizer` says what looks like a special token.
  absl::StatusOr<RenderedPrompt> Render(const ChatRequest& request,
                                        const Tokenizer& tokenizer) const;

 private:
  explicit ChatTemplate(tt_template* handle) : handle_(handle) {}

  tt_template* const handle_;
};

}  // namespace tandem
