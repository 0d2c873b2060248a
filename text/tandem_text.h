#pragma once
// C ABI of the Rust crate in this folder. C++ code uses the wrappers beside it instead.
//   errors  every function that can fail returns a tt_status and, on failure, fills *error with a
//           message (error may be null; else it must be a zeroed tt_bytes). Nothing unwinds: a
//           panic becomes TT_PANIC, with its place but not its text, which may quote a prompt.
//           The tt_stream or tt_matcher that one happened in fails every later call; the
//           immutable ones go on
//   life    *_free takes null; buffers that Rust filled are freed by tt_bytes_free, tt_ids_free
//   units   lengths of text are in bytes; (null, 0) is an empty text
//   threads tt_stream and tt_matcher have one user; all others are immutable and shared
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t tt_status;
enum {
  TT_OK = 0,
  TT_ARGUMENT = -1,  // the caller's mistake: not UTF-8, a null pointer, JSON of the wrong shape
  TT_PARSE = -2,     // the tokenizer, the template or the grammar itself is wrong
  TT_TEMPLATE = -3,  // the template failed on this input
  TT_RAISED = -4,    // the template called raise_exception(); the message is its words
  TT_LIMIT = -5,     // too long, too deep or too slow
  TT_PANIC = -100,
};

enum tt_token_kind { TT_NORMAL = 0, TT_ADDED = 1, TT_SPECIAL = 2, TT_HOLE = 3 };

typedef struct tt_tokenizer tt_tokenizer;
typedef struct tt_template tt_template;
typedef struct tt_stream tt_stream;

typedef struct {
  uint8_t* ptr;
  size_t len, capacity;
} tt_bytes;
typedef struct {
  uint32_t* ptr;
  size_t len, capacity;
} tt_ids;

void tt_bytes_free(tt_bytes* bytes);
void tt_ids_free(tt_ids* ids);

// From the text of a tokenizer.json.
tt_status tt_tokenizer_load(const uint8_t* json, size_t len, tt_tokenizer** out, tt_bytes* error);
void tt_tokenizer_free(tt_tokenizer* tokenizer);
// The largest id plus one; there may be holes below it.
uint32_t tt_tokenizer_vocab_size(const tt_tokenizer* tokenizer);
// 1 and *id, or 0 when there is no such token.
int32_t tt_tokenizer_token_to_id(const tt_tokenizer* tokenizer, const uint8_t* token, size_t len,
                                 uint32_t* id);
// The bytes that `id` stands for, alive as long as the tokenizer. Returns a tt_token_kind.
int32_t tt_tokenizer_token(const tt_tokenizer* tokenizer, uint32_t id, const uint8_t** bytes,
                           size_t* len);
// add_special puts the BOS, EOS, ... round the text that the tokenizer asks for; parse_special
// reads special tokens in the text as such, except across a barrier (ascending byte offsets).
tt_status tt_tokenizer_encode(const tt_tokenizer* tokenizer, const uint8_t* text, size_t len,
                              const uint32_t* barriers, size_t barriers_len, int32_t add_special,
                              int32_t parse_special, tt_ids* out, tt_bytes* error);
tt_status tt_tokenizer_decode(const tt_tokenizer* tokenizer, const uint32_t* ids, size_t ids_len,
                              int32_t skip_special, int32_t text_start, tt_bytes* out,
                              tt_bytes* error);
// These panic inside the guard, as a bug would: for the tests of it.
tt_status tt_stream_panic_for_test(tt_stream* stream);
tt_status tt_tokenizer_panic_for_test(const tt_tokenizer* tokenizer, tt_bytes* error);

// skip_special and text_start as in tt_tokenizer_decode. The stream keeps what it needs of the
// tokenizer, which may be freed first.
tt_status tt_stream_new(const tt_tokenizer* tokenizer, int32_t skip_special, int32_t text_start,
                        tt_stream** out, tt_bytes* error);
// *text is whole code points, possibly none, and lives until the next call on the stream.
tt_status tt_stream_push(tt_stream* stream, uint32_t id, const uint8_t** text, size_t* len);
tt_status tt_stream_finish(tt_stream* stream, const uint8_t** text, size_t* len);
void tt_stream_free(tt_stream* stream);

tt_status tt_template_compile(const uint8_t* source, size_t len, tt_template** out,
                              tt_bytes* error);
void tt_template_free(tt_template* chat_template);
// One chat. The texts are JSON: messages a list, tools and documents anything or null, variables
// and special_tokens objects. The zone that strftime_now() shows is utc_offset_s east of UTC.
typedef struct {
  const uint8_t* ptr;
  size_t len;
} tt_text;
typedef struct {
  tt_text messages, tools, documents, variables, special_tokens;
  int64_t now_unix_s;
  int32_t utc_offset_s;
  int32_t add_generation_prompt;
} tt_chat;
// *barriers says across which byte offsets of *out no special token may be read: inside every
// look-alike of one in the messages, tools, documents and variables.
tt_status tt_template_render(const tt_template* chat_template, const tt_tokenizer* tokenizer,
                             const tt_chat* chat, tt_bytes* out, tt_ids* barriers, tt_bytes* error);

typedef struct tt_environment tt_environment;
typedef struct tt_grammar tt_grammar;
typedef struct tt_matcher tt_matcher;

enum tt_grammar_kind {
  TT_JSON_SCHEMA = 0,
  TT_REGEX = 1,
  TT_LARK = 2,
  TT_CHOICE = 3,  // the source is a JSON list of strings
};

// What grammars need of a tokenizer, which may be freed first. `width` is that of the model's
// logits: a mask has that many bits.
tt_status tt_environment_new(const tt_tokenizer* tokenizer, uint32_t width, tt_environment** out,
                             tt_bytes* error);
void tt_environment_free(tt_environment* environment);
// The grammar keeps what it needs of the environment.
tt_status tt_grammar_compile(const tt_environment* environment, int32_t kind, const uint8_t* source,
                             size_t len, tt_grammar** out, tt_bytes* error);
void tt_grammar_free(tt_grammar* grammar);
// At the start of a sentence; keeps what it needs of the grammar.
tt_status tt_matcher_new(const tt_grammar* grammar, tt_matcher** out, tt_bytes* error);
tt_status tt_matcher_fork(const tt_matcher* matcher, tt_matcher** out, tt_bytes* error);
// Bit i % 32 of words[i / 32] says whether token i may come next; control tokens never may. `len`
// is width / 32, rounded up. *may_end: the sentence may end here.
tt_status tt_matcher_mask(tt_matcher* matcher, uint32_t* words, size_t len, int32_t* may_end,
                          tt_bytes* error);
// *finished: the sentence is complete and nothing can follow. After an error the matcher is of no
// use any more.
tt_status tt_matcher_consume(tt_matcher* matcher, const uint32_t* ids, size_t len,
                             int32_t* finished, tt_bytes* error);
void tt_matcher_free(tt_matcher* matcher);

#ifdef __cplusplus
}
#endif
