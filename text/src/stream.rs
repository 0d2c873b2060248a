//! Token ids to text, one at a time and at once.
use std::sync::Arc;

use crate::token_table::{Kind, TokenTable};

#[derive(Clone, Copy)]
pub struct DecodeOptions {
    pub skip_special: bool,
    /// The ids begin a text, so that the blank that the encoder put first is dropped.
    pub text_start: bool,
}

/// Turns ids into text in O(bytes of the token) each. Whole code points come out; the bytes of an
/// unfinished one are held back, and an impossible sequence becomes U+FFFD.
pub struct Stream {
    table: Arc<TokenTable>,
    skip_special: bool,
    strip_left: usize,
    tail: Vec<u8>,
    out: String,
}

impl Stream {
    pub fn new(table: Arc<TokenTable>, options: DecodeOptions) -> Self {
        let strip_left = if options.text_start { table.strip_start() } else { 0 };
        let skip_special = options.skip_special;
        Stream { table, skip_special, strip_left, tail: Vec::new(), out: String::new() }
    }

    /// The text that `id` completes; valid until the next call.
    pub fn push(&mut self, id: u32) -> &str {
        self.out.clear();
        if !(self.skip_special && self.table.kind(id) == Kind::Special) {
            let bytes = strip_start(self.table.bytes(id), &mut self.strip_left);
            self.tail.extend_from_slice(bytes);
            self.release(false);
        }
        &self.out
    }

    /// What is still held back, as U+FFFD.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        self.release(true);
        &self.out
    }

    fn release(&mut self, end: bool) {
        let mut rest: &[u8] = &self.tail;
        while !rest.is_empty() {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.out.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            self.out.push_str(&String::from_utf8_lossy(valid));
            rest = after;
            match error.error_len() {
                None if !end => break, // the next token may complete it
                bad => {
                    self.out.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad.unwrap_or(rest.len())..];
                }
            }
        }
        let held = rest.len();
        self.tail.drain(..self.tail.len() - held);
    }
}

fn strip_start<'a>(mut bytes: &'a [u8], left: &mut usize) -> &'a [u8] {
    while *left > 0 && !bytes.is_empty() {
        match bytes.strip_prefix(b" ") {
            Some(rest) => {
                bytes = rest;
                *left -= 1;
            }
            None => *left = 0,
        }
    }
    bytes
}

/// The text of a whole sequence.
pub fn decode(table: &TokenTable, ids: &[u32], options: DecodeOptions) -> String {
    let mut bytes = Vec::new();
    let mut strip_left = if options.text_start { table.strip_start() } else { 0 };
    for &id in ids {
        if !(options.skip_special && table.kind(id) == Kind::Special) {
            bytes.extend_from_slice(strip_start(table.bytes(id), &mut strip_left));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
