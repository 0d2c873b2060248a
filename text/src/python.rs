//! Python's way of printing values, which templates count on.
use std::fmt::Write as _;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

const MAX_DEPTH: usize = 64;
const MAX_JSON_BYTES: usize = 8 << 20;

/// Python's repr of a float.
pub fn float_text(f: f64) -> String {
    if f.is_nan() {
        return "NaN".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let plain = f == 0.0 || (1e-4..1e16).contains(&f.abs());
    if plain {
        return format!("{f:?}");
    }
    let digits = format!("{f:e}"); // the shortest that reads back: d.ddde-x
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{mantissa}e-{exponent:0>2}"),
        None => format!("{mantissa}e+{exponent:0>2}"),
    }
}

/// A float that Rust prints differently from Python: those outside [1e-4, 1e16).
#[derive(Debug)]
pub struct WideFloat(pub f64);

impl Object for WideFloat {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&float_text(self.0))
    }
}

pub fn is_wide_float(value: &Value) -> bool {
    value.downcast_object_ref::<WideFloat>().is_some()
}

/// A JSON value as templates see it.
pub fn from_json(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(b),
        Json::String(s) => Value::from(s),
        Json::Array(items) => Value::from_iter(items.into_iter().map(from_json)),
        Json::Object(map) => Value::from_pairs(map.into_iter().map(|(k, v)| (k, from_json(v)))),
        Json::Number(n) => {
            if let Some(i) = n.as_i64() {
                return Value::from(i);
            }
            if let Some(u) = n.as_u64() {
                return Value::from(u);
            }
            let f = n.as_f64().unwrap_or(f64::NAN);
            if f == 0.0 || (1e-4..1e16).contains(&f.abs()) {
                Value::from(f)
            } else {
                Value::from_object(WideFloat(f))
            }
        }
    }
}

/// str.splitlines()
pub fn split_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let ends_line = matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if !ends_line {
            continue;
        }
        lines.push(&text[start..i]);
        start = i + c.len_utf8();
        if c == '\r' && chars.next_if(|&(_, next)| next == '\n').is_some() {
            start += 1;
        }
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}

pub fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// json.dumps as transformers calls it.
pub struct JsonStyle {
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
    pub ascii: bool,
}

impl JsonStyle {
    pub fn dump(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.write(value, &mut out, 0)?;
        Ok(out)
    }

    fn newline(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\u{FDD0}'..='\u{FDEF}' => out.push(c), // marks (marks.rs) must survive
                c if (c as u32) < 0x20 || (self.ascii && (c as u32) >= 0x7f) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }

    fn key(&self, key: &Value, out: &mut String) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or(""), out),
            ValueKind::Bool | ValueKind::None | ValueKind::Number => {
                out.push('"');
                self.write(key, out, MAX_DEPTH)?;
                out.push('"');
            }
            _ => return Err(invalid("keys must be str, int, float, bool or None")),
        }
        Ok(())
    }

    fn items<T>(
        &self,
        brackets: [char; 2],
        items: impl Iterator<Item = T>,
        out: &mut String,
        depth: usize,
        mut write: impl FnMut(T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut any = false;
        out.push(brackets[0]);
        for item in items {
            if any {
                out.push_str(&self.item_separator);
            }
            any = true;
            self.newline(out, depth + 1);
            write(item, out)?;
        }
        if any {
            self.newline(out, depth);
        }
        out.push(brackets[1]);
        Ok(())
    }

    fn write(&self, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH || out.len() > MAX_JSON_BYTES {
            return Err(invalid("tojson: deeper than 64 levels or longer than 8 MiB"));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => {
                let _ = write!(out, "{value}");
            }
            ValueKind::Number => out.push_str(&float_text(f64::try_from(value.clone())?)),
            ValueKind::Plain if is_wide_float(value) => {
                let _ = write!(out, "{value}");
            }
            ValueKind::String => self.string(value.as_str().unwrap_or(""), out),
            ValueKind::Seq | ValueKind::Iterable => {
                self.items(['[', ']'], value.try_iter()?, out, depth, |item, out| {
                    self.write(&item, out, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.items(['{', '}'], keys.into_iter(), out, depth, |key, out| {
                    self.key(&key, out)?;
                    out.push_str(&self.key_separator);
                    self.write(&value.get_item(&key)?, out, depth + 1)
                })?;
            }
            kind => return Err(invalid(format!("object of type {kind} is not JSON serializable"))),
        }
        Ok(())
    }
}
