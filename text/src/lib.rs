//! The C ABI of the text layer; tandem_text.h is its documentation. Nothing but pointers, guards
//! and calls of the modules below belongs here.
#![allow(clippy::missing_safety_doc)] // tandem_text.h states what each pointer must be

mod added;
mod ffi;
mod filters;
mod grammar;
mod marks;
mod methods;
mod python;
mod stream;
mod template;
mod token_table;
mod tokenizer;

use std::ptr;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use ffi::{exclusive, fail, guard, guard_owned, guard_shared, inside, shared, text};
use ffi::{view, view_mut, Buffer, Code, Fail, Handle};
use grammar::{Environment, Grammar, Sentence};
use stream::{decode, DecodeOptions, Stream};
use template::{ChatTemplate, Request};
use token_table::Kind;
use tokenizer::{EncodeOptions, Tokenizer};

type Bytes = Buffer<u8>;
type Ids = Buffer<u32>;
type TokenizerHandle = Handle<Tokenizer>;
type StreamHandle = Handle<Stream>;
type TemplateHandle = Handle<ChatTemplate>;
type EnvironmentHandle = Handle<Arc<Environment>>;
type GrammarHandle = Handle<Grammar>;
type MatcherHandle = Handle<Sentence>;

fn parse_error(error: impl ToString) -> Fail {
    Fail { code: Code::Parse, message: error.to_string() }
}

#[no_mangle]
pub unsafe extern "C" fn tt_bytes_free(bytes: *mut Bytes) {
    Buffer::free(bytes);
}

#[no_mangle]
pub unsafe extern "C" fn tt_ids_free(ids: *mut Ids) {
    Buffer::free(ids);
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_load(
    json: *const u8,
    len: usize,
    out: *mut *mut TokenizerHandle,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let out = exclusive(out)?;
        let tokenizer = Tokenizer::from_json(view(json, len)?).map_err(parse_error)?;
        *out = Handle::into_raw(tokenizer);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_free(tokenizer: *mut TokenizerHandle) {
    ffi::free(tokenizer);
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_vocab_size(tokenizer: *const TokenizerHandle) -> u32 {
    let mut size = 0;
    guard_shared(tokenizer, ptr::null_mut(), |tokenizer| {
        size = tokenizer.table.len() as u32;
        Ok(())
    });
    size
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_token_to_id(
    tokenizer: *const TokenizerHandle,
    token: *const u8,
    len: usize,
    id: *mut u32,
) -> i32 {
    let mut found = 0;
    guard_shared(tokenizer, ptr::null_mut(), |tokenizer| {
        if let Some(known) = tokenizer.token_to_id(text(token, len)?) {
            *exclusive(id)? = known;
            found = 1;
        }
        Ok(())
    });
    found
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_token(
    tokenizer: *const TokenizerHandle,
    id: u32,
    bytes: *mut *const u8,
    len: *mut usize,
) -> i32 {
    let mut kind = Kind::Hole;
    guard_shared(tokenizer, ptr::null_mut(), |tokenizer| {
        give_view(tokenizer.table.bytes(id), bytes, len)?;
        kind = tokenizer.table.kind(id);
        Ok(())
    });
    kind as i32
}

unsafe fn give_view(part: &[u8], ptr: *mut *const u8, len: *mut usize) -> ffi::Outcome<()> {
    *exclusive(ptr)? = part.as_ptr();
    *exclusive(len)? = part.len();
    Ok(())
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_encode(
    tokenizer: *const TokenizerHandle,
    input: *const u8,
    len: usize,
    barriers: *const u32,
    barriers_len: usize,
    add_special: i32,
    parse_special: i32,
    out: *mut Ids,
    error: *mut Bytes,
) -> i32 {
    guard_shared(tokenizer, error, |tokenizer| {
        let options = EncodeOptions {
            add_special: add_special != 0,
            parse_special: parse_special != 0,
            barriers: view(barriers, barriers_len)?,
        };
        match tokenizer.encode(text(input, len)?, options) {
            Ok(ids) => exclusive(out)?.fill(ids),
            Err(e) => return fail(Code::Argument, e.to_string()),
        }
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_decode(
    tokenizer: *const TokenizerHandle,
    ids: *const u32,
    ids_len: usize,
    skip_special: i32,
    text_start: i32,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    guard_shared(tokenizer, error, |tokenizer| {
        let options =
            DecodeOptions { skip_special: skip_special != 0, text_start: text_start != 0 };
        let text = decode(&tokenizer.table, view(ids, ids_len)?, options);
        exclusive(out)?.fill(text.into_bytes());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_panic_for_test(
    tokenizer: *const TokenizerHandle,
    error: *mut Bytes,
) -> i32 {
    guard_shared(tokenizer, error, |_| panic!("asked for by a test"))
}

#[no_mangle]
pub unsafe extern "C" fn tt_stream_new(
    tokenizer: *const TokenizerHandle,
    skip_special: i32,
    text_start: i32,
    out: *mut *mut StreamHandle,
    error: *mut Bytes,
) -> i32 {
    guard_shared(tokenizer, error, |tokenizer| {
        let options =
            DecodeOptions { skip_special: skip_special != 0, text_start: text_start != 0 };
        *exclusive(out)? = Handle::into_raw(Stream::new(Arc::clone(&tokenizer.table), options));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_stream_push(
    stream: *mut StreamHandle,
    id: u32,
    out: *mut *const u8,
    len: *mut usize,
) -> i32 {
    guard_owned(stream, ptr::null_mut(), |stream| give_view(stream.push(id).as_bytes(), out, len))
}

#[no_mangle]
pub unsafe extern "C" fn tt_stream_panic_for_test(stream: *mut StreamHandle) -> i32 {
    guard_owned(stream, ptr::null_mut(), |_| panic!("asked for by a test"))
}

#[no_mangle]
pub unsafe extern "C" fn tt_stream_finish(
    stream: *mut StreamHandle,
    out: *mut *const u8,
    len: *mut usize,
) -> i32 {
    guard_owned(stream, ptr::null_mut(), |stream| give_view(stream.finish().as_bytes(), out, len))
}

#[no_mangle]
pub unsafe extern "C" fn tt_stream_free(stream: *mut StreamHandle) {
    ffi::free(stream);
}

#[no_mangle]
pub unsafe extern "C" fn tt_template_compile(
    source: *const u8,
    len: usize,
    out: *mut *mut TemplateHandle,
    error: *mut Bytes,
) -> i32 {
    guard(error, || {
        let out = exclusive(out)?;
        *out = Handle::into_raw(ChatTemplate::compile(text(source, len)?)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_template_free(template: *mut TemplateHandle) {
    ffi::free(template);
}

/// tt_text
#[repr(C)]
pub struct Text {
    ptr: *const u8,
    len: usize,
}

/// tt_chat
#[repr(C)]
pub struct Chat {
    messages: Text,
    tools: Text,
    documents: Text,
    variables: Text,
    special_tokens: Text,
    now_unix_s: i64,
    utc_offset_s: i32,
    add_generation_prompt: i32,
}

unsafe fn json<T: DeserializeOwned>(name: &str, part: &Text) -> ffi::Outcome<T> {
    serde_json::from_str(text(part.ptr, part.len)?)
        .map_err(|e| Fail { code: Code::Argument, message: format!("{name}: {e}") })
}

#[no_mangle]
pub unsafe extern "C" fn tt_template_render(
    template: *const TemplateHandle,
    tokenizer: *const TokenizerHandle,
    chat: *const Chat,
    out: *mut Bytes,
    barriers: *mut Ids,
    error: *mut Bytes,
) -> i32 {
    guard_shared(template, error, |template| {
        let chat = shared(chat)?;
        let request = Request {
            messages: json("messages", &chat.messages)?,
            tools: json("tools", &chat.tools)?,
            documents: json("documents", &chat.documents)?,
            variables: json("variables", &chat.variables)?,
            special_tokens: json("special_tokens", &chat.special_tokens)?,
            add_generation_prompt: chat.add_generation_prompt != 0,
            now_unix_s: chat.now_unix_s,
            utc_offset_s: chat.utc_offset_s,
        };
        let rendered = template.render(request, inside(tokenizer)?)?;
        let (out, barriers) = (exclusive(out)?, exclusive(barriers)?);
        out.fill(rendered.text.into_bytes());
        barriers.fill(rendered.barriers);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_environment_new(
    tokenizer: *const TokenizerHandle,
    width: u32,
    out: *mut *mut EnvironmentHandle,
    error: *mut Bytes,
) -> i32 {
    guard_shared(tokenizer, error, |tokenizer| {
        let environment = Environment::new(tokenizer, width).map_err(parse_error)?;
        *exclusive(out)? = Handle::into_raw(Arc::new(environment));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_environment_free(environment: *mut EnvironmentHandle) {
    ffi::free(environment);
}

#[no_mangle]
pub unsafe extern "C" fn tt_grammar_compile(
    environment: *const EnvironmentHandle,
    kind: i32,
    source: *const u8,
    len: usize,
    out: *mut *mut GrammarHandle,
    error: *mut Bytes,
) -> i32 {
    guard_shared(environment, error, |environment| {
        let kind = grammar::Kind::from_raw(kind)?;
        let grammar = Grammar::compile(environment, kind, text(source, len)?)?;
        *exclusive(out)? = Handle::into_raw(grammar);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_grammar_free(grammar: *mut GrammarHandle) {
    ffi::free(grammar);
}

#[no_mangle]
pub unsafe extern "C" fn tt_matcher_new(
    grammar: *const GrammarHandle,
    out: *mut *mut MatcherHandle,
    error: *mut Bytes,
) -> i32 {
    guard_shared(grammar, error, |grammar| {
        *exclusive(out)? = Handle::into_raw(grammar.matcher());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_matcher_fork(
    matcher: *const MatcherHandle,
    out: *mut *mut MatcherHandle,
    error: *mut Bytes,
) -> i32 {
    guard_shared(matcher, error, |matcher| {
        *exclusive(out)? = Handle::into_raw(matcher.fork());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_matcher_mask(
    matcher: *mut MatcherHandle,
    words: *mut u32,
    len: usize,
    may_end: *mut i32,
    error: *mut Bytes,
) -> i32 {
    guard_owned(matcher, error, |matcher| {
        *exclusive(may_end)? = i32::from(matcher.mask(view_mut(words, len)?)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_matcher_consume(
    matcher: *mut MatcherHandle,
    ids: *const u32,
    len: usize,
    finished: *mut i32,
    error: *mut Bytes,
) -> i32 {
    guard_owned(matcher, error, |matcher| {
        matcher.consume(view(ids, len)?)?;
        *exclusive(finished)? = i32::from(matcher.finished());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tt_matcher_free(matcher: *mut MatcherHandle) {
    ffi::free(matcher);
}
