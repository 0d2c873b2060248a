//! Keeps track of what in a rendered prompt was a caller's text.
//!
//! Before rendering, an invisible mark is put after the first character of every look-alike
//! (added.rs) in a caller's strings: the template carries it to where the text ends up. Afterwards
//! the marks are taken out again, and their places are *barriers*: no special token may be read
//! across one. The mark is a Unicode noncharacter that neither the template nor the request has.
use serde_json::{Map, Value};

use crate::added::Lookalikes;

const FIRST: u32 = 0xFDD0; // 32 noncharacters, for a program's internal use, begin here
const COUNT: u32 = 32;

/// Bit i is set where U+FDD0 + i occurs in `text`.
pub fn noncharacters(text: &str) -> u32 {
    let mut found = 0;
    for c in text.chars() {
        let offset = (c as u32).wrapping_sub(FIRST);
        if offset < COUNT {
            found |= 1 << offset;
        }
    }
    found
}

pub fn noncharacters_in(value: &Value) -> u32 {
    match value {
        Value::String(text) => noncharacters(text),
        Value::Array(items) => items.iter().fold(0, |found, v| found | noncharacters_in(v)),
        Value::Object(map) => {
            map.iter().fold(0, |found, (k, v)| found | noncharacters(k) | noncharacters_in(v))
        }
        _ => 0,
    }
}

/// A noncharacter that is not among `used`.
pub fn pick(used: u32) -> Option<char> {
    (0..COUNT).find(|i| used & (1 << i) == 0).and_then(|i| char::from_u32(FIRST + i))
}

/// Puts `mark` into every look-alike in the strings of `value`, keys included.
pub fn insert(value: &mut Value, lookalikes: &Lookalikes, mark: char) {
    match value {
        Value::String(text) => insert_in_text(text, lookalikes, mark),
        Value::Array(items) => items.iter_mut().for_each(|v| insert(v, lookalikes, mark)),
        Value::Object(map) => {
            let marked = std::mem::take(map).into_iter().map(|(mut key, mut value)| {
                insert_in_text(&mut key, lookalikes, mark);
                insert(&mut value, lookalikes, mark);
                (key, value)
            });
            *map = marked.collect::<Map<String, Value>>();
        }
        _ => {}
    }
}

fn insert_in_text(text: &mut String, lookalikes: &Lookalikes, mark: char) {
    let places = lookalikes.barriers(text);
    if places.is_empty() {
        return;
    }
    let mut marked = String::with_capacity(text.len() + places.len() * mark.len_utf8());
    let mut done = 0;
    for place in places {
        marked.push_str(&text[done..place]);
        marked.push(mark);
        done = place;
    }
    marked.push_str(&text[done..]);
    *text = marked;
}

/// The text without marks, and the byte offsets in it where they stood.
pub fn take_out(text: String, mark: char) -> (String, Vec<u32>) {
    if !text.contains(mark) {
        return (text, Vec::new());
    }
    let mut clean = String::with_capacity(text.len());
    let mut barriers = Vec::new();
    for (i, part) in text.split(mark).enumerate() {
        if i > 0 {
            barriers.push(clean.len() as u32); // at most 8 MiB (template.rs)
        }
        clean.push_str(part);
    }
    barriers.dedup();
    (clean, barriers)
}
