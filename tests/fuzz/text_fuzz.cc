#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "text/rust.h"

// The C ABI of the text crate on bytes of a stranger. The first byte chooses what the rest is:
//   t  a tokenizer.json, and after a \x1f a text that it encodes, decodes and streams
//   c  a chat template, and after \x1f each its messages, tools and variables
//   s r l o  a grammar: JSON schema, regex, Lark, JSON list of choices; after a \x1f, bytes that
//            choose the tokens of a sentence in it
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

// The grammars' vocabulary: the bytes from blank to tilde, and a control token.
const tt_environment* Environment() {
  static const tt_environment* const environment = [] {
    std::string json = R"({"model": {"type": "WordLevel", "unk_token": "~", "vocab": {"<s>": 95)";
    for (int c = ' '; c <= '~'; ++c) {
      absl::StrAppend(&json, c == '"' || c == '\\' ? ", \"\\" : ", \"", std::string(1, c),
                      "\": ", c - ' ');
    }
    absl::StrAppend(&json, R"(}}, "added_tokens": [{"id": 95, "content": "<s>", "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}]})");
    tt_tokenizer* tokenizer = nullptr;
    tt_environment* made = nullptr;
    TANDEM_CHECK(tt_tokenizer_load(Data(json), json.size(), &tokenizer, nullptr) == TT_OK, "load");
    TANDEM_CHECK(tt_environment_new(tokenizer, 100, &made, nullptr) == TT_OK, "environment");
    tt_tokenizer_free(tokenizer);
    return made;
  }();
  return environment;
}

// A token of the mask can be consumed, and the control token and the padding are in no mask.
void Follow(int32_t kind, absl::string_view source, absl::string_view choices) {
  tt_grammar* grammar = nullptr;
  tt_matcher* matcher = nullptr;
  RustBytes error;
  const tt_status compiled =
      tt_grammar_compile(Environment(), kind, Data(source), source.size(), &grammar, error.out());
  TANDEM_CHECK(compiled != TT_PANIC, "a panic in the compiler");
  if (compiled != TT_OK) return;
  TANDEM_CHECK(tt_matcher_new(grammar, &matcher, nullptr) == TT_OK, "matcher");
  tt_grammar_free(grammar);
  int32_t finished = 0;
  for (size_t i = 0; i < choices.size() && finished == 0; ++i) {
    uint32_t mask[4] = {};
    int32_t may_end = 0;
    if (tt_matcher_mask(matcher, mask, 4, &may_end, nullptr) != TT_OK) break;
    TANDEM_CHECK((mask[2] >> 31 & 1) == 0 && mask[3] == 0, "no control token, no padding");
    std::vector<uint32_t> allowed;
    for (uint32_t id = 0; id < 96; ++id) {
      if (mask[id / 32] >> (id % 32) & 1) allowed.push_back(id);
    }
    if (allowed.empty()) break;
    const uint32_t next = allowed[static_cast<unsigned char>(choices[i]) % allowed.size()];
    RustBytes why;
    const tt_status consumed = tt_matcher_consume(matcher, &next, 1, &finished, why.out());
    TANDEM_CHECK(consumed == TT_OK, "what the mask allows can be consumed");
  }
  tt_matcher_free(matcher);
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
  const size_t kind = absl::string_view("srlo").find(input[0]);
  if (kind != absl::string_view::npos) {
    tandem::Follow(static_cast<int32_t>(kind), part(0, ""), part(1, "some choices"));
  }
  if (input[0] == 'c') {
    tandem::Render(part(0, ""), part(1, R"([{"role": "user", "content": "<s>"}])"), part(2, "null"),
                   part(3, "{}"));
  }
  return 0;
}
