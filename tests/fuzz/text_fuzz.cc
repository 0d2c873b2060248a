#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_split.h"
#include "base/check.h"
#include "text/rust.h"

// The C ABI of the text crate on bytes of a stranger. The first byte chooses what the rest is:
//   t  a tokenizer.json, and after a \x1f a text that it encodes, decodes and streams
//   c  a chat template, and after \x1f each its messages, tools and variables
namespace tandem {
namespace {

using text_internal::Data;
using text_internal::RustBytes;
using text_internal::RustIds;

constexpr absl::string_view kTokenizer = R"({"model": {"type": "WordLevel", "unk_token": "?",
  "vocab": {"?": 0, "<s>": 1, "a": 2}}, "added_tokens": [{"id": 1, "content": "<s>",
  "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}]})";

std::string Streamed(const tt_tokenizer* tokenizer, const tt_ids& ids) {
  tt_stream* stream = nullptr;
  if (tt_stream_new(tokenizer, 0, 1, &stream, nullptr) != TT_OK) return "";
  std::string text;
  const uint8_t* part = nullptr;
  size_t size = 0;
  for (size_t i = 0; i < ids.len; ++i) {
    TANDEM_CHECK(tt_stream_push(stream, ids.ptr[i], &part, &size) == TT_OK, "push");
    text.append(reinterpret_cast<const char*>(part), size);
  }
  TANDEM_CHECK(tt_stream_finish(stream, &part, &size) == TT_OK, "finish");
  text.append(reinterpret_cast<const char*>(part), size);
  tt_stream_free(stream);
  return text;
}

void Tokenize(absl::string_view json, absl::string_view text) {
  tt_tokenizer* tokenizer = nullptr;
  RustBytes error;
  if (tt_tokenizer_load(Data(json), json.size(), &tokenizer, error.out()) != TT_OK) return;
  const uint32_t barrier = static_cast<uint32_t>(text.size() / 2);
  for (const int parse_special : {0, 1}) {
    RustIds ids;
    RustBytes whole, failure;
    if (tt_tokenizer_encode(tokenizer, Data(text), text.size(), &barrier, 1, 1, parse_special,
                            ids.out(), failure.out()) != TT_OK) {
      continue;
    }
    const tt_ids& all = *ids.out();
    TANDEM_CHECK(
        tt_tokenizer_decode(tokenizer, all.ptr, all.len, 0, 1, whole.out(), nullptr) == TT_OK,
        "decode");
    TANDEM_CHECK(Streamed(tokenizer, all) == whole.view(), "streamed text is the whole text");
  }
  tt_tokenizer_free(tokenizer);
}

void Render(absl::string_view source, absl::string_view messages, absl::string_view tools,
            absl::string_view variables) {
  tt_template* chat_template = nullptr;
  tt_tokenizer* tokenizer = nullptr;
  RustBytes compile_error, render_error, prompt;
  RustIds barriers;
  if (tt_template_compile(Data(source), source.size(), &chat_template, compile_error.out()) !=
      TT_OK) {
    return;
  }
  TANDEM_CHECK(tt_tokenizer_load(Data(kTokenizer), kTokenizer.size(), &tokenizer, nullptr) == TT_OK,
               "the tokenizer above");
  const auto text = [](absl::string_view part) { return tt_text{Data(part), part.size()}; };
  const tt_chat chat = {.messages = text(messages),
                        .tools = text(tools),
                        .documents = text("null"),
                        .variables = text(variables),
                        .special_tokens = text(R"({"bos_token": "<s>"})"),
                        .now_unix_s = 1735862399,
                        .utc_offset_s = 0,
                        .add_generation_prompt = 1};
  tt_template_render(chat_template, tokenizer, &chat, prompt.out(), barriers.out(),
                     render_error.out());
  tt_tokenizer_free(tokenizer);
  tt_template_free(chat_template);
}

}  // namespace
}  // namespace tandem

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  const std::vector<absl::string_view> parts = absl::StrSplit(input.substr(1), '\x1f');
  const auto part = [&](size_t i, absl::string_view absent) {
    return i < parts.size() ? parts[i] : absent;
  };
  if (input[0] == 't') tandem::Tokenize(part(0, ""), part(1, "some text"));
  if (input[0] == 'c') {
    tandem::Render(part(0, ""), part(1, R"([{"role": "user", "content": "<s>"}])"), part(2, "null"),
                   part(3, "{}"));
  }
  return 0;
}
