//! Filters, tests and functions that templates written for transformers' Jinja count on.
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use crate::python::{invalid, is_wide_float, split_lines, JsonStyle};

/// In front of the words of raise_exception() in an error.
pub const RAISED: &str = "\u{1}raised\u{1}";
/// Variables that strftime_now() reads: seconds since 1970, and the zone's offset in seconds.
pub const NOW: &str = "tandem_now";
pub const UTC_OFFSET: &str = "tandem_utc_offset";

const MAX_INDENT: usize = 64;
/// What minijinja charges for its own tojson.
const JSON_BYTES_PER_FUEL: u64 = 4;

pub fn add_to(env: &mut Environment<'static>) {
    minijinja_contrib::add_to_environment(env);
    env.set_unknown_method_callback(crate::methods::call);
    env.add_filter("tojson", to_json);
    env.add_filter("indent", indent);
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_test("sequence", is_sequence);
    env.add_test("number", |v: &Value| {
        v.is_number() || v.kind() == ValueKind::Bool || is_wide_float(v)
    });
    env.add_test("float", |v: &Value| (v.is_number() && !v.is_integer()) || is_wide_float(v));
    env.add_test("callable", |v: &Value| v.kind() == ValueKind::Plain && !is_wide_float(v));
    // minijinja iterates none as if it were empty, so that "tools is iterable" held for null.
    env.add_test("iterable", |v: &Value| !v.is_none() && v.try_iter().is_ok());
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
}

/// An argument by position or by name.
fn argument(at: usize, name: &str, rest: &Rest<Value>, named: &Kwargs) -> Result<Value, Error> {
    let given = match rest.get(at) {
        Some(value) => Some(value.clone()),
        None => named.get::<Option<Value>>(name)?,
    };
    Ok(given.unwrap_or(Value::UNDEFINED))
}

fn is_missing(value: &Value) -> bool {
    value.is_none() || value.is_undefined()
}

/// tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)
fn to_json(state: &State, value: Value, rest: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    if rest.len() > 4 {
        return Err(Error::new(ErrorKind::TooManyArguments, "tojson takes at most 4 arguments"));
    }
    let ascii = argument(0, "ensure_ascii", &rest, &named)?.is_true();
    let indent = argument(1, "indent", &rest, &named)?;
    let separators = argument(2, "separators", &rest, &named)?;
    let sort_keys = argument(3, "sort_keys", &rest, &named)?.is_true();
    named.assert_all_used()?;
    let indent = match indent {
        missing if is_missing(&missing) => None,
        text if text.as_str().is_some() => text.as_str().map(str::to_owned),
        width => Some(" ".repeat(usize::try_from(width)?.min(MAX_INDENT))),
    };
    let (item_separator, key_separator) = if is_missing(&separators) {
        (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned())
    } else {
        let mut parts = separators.try_iter()?.map(|part| part.to_string());
        let (item, key) = (parts.next(), parts.next());
        item.zip(key).ok_or_else(|| invalid("separators needs two strings"))?
    };
    let style = JsonStyle { indent, item_separator, key_separator, sort_keys, ascii };
    let text = style.dump(&value)?;
    state.consume_fuel(text.len() as u64 / JSON_BYTES_PER_FUEL)?;
    Ok(Value::from(text)) // no "safe" string: joined later, it must not escape
}

/// Jinja's indent; minijinja's drops a trailing newline.
fn indent(text: String, rest: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let width = argument(0, "width", &rest, &named)?;
    let first = argument(1, "first", &rest, &named)?.is_true();
    let blank = argument(2, "blank", &rest, &named)?.is_true();
    named.assert_all_used()?;
    let margin = match width.as_str() {
        Some(text) => text.to_owned(),
        None if is_missing(&width) => "    ".to_owned(),
        None => " ".repeat(usize::try_from(width)?.min(MAX_INDENT)),
    };
    let text = text + "\n";
    let mut out = String::new();
    for (i, line) in split_lines(&text).into_iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if if i == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(out)
}

fn default(
    value: Value,
    other: Option<Value>,
    falsy_too: Option<bool>,
    named: Kwargs,
) -> Result<Value, Error> {
    let named_other = named.get::<Option<Value>>("default_value")?;
    let other = other.or(named_other).unwrap_or_else(|| Value::from(""));
    let named_falsy = named.get::<Option<bool>>("boolean")?;
    let falsy_too = falsy_too.or(named_falsy).unwrap_or(false);
    named.assert_all_used()?;
    let replace = value.is_undefined() || (falsy_too && !value.is_true());
    Ok(if replace { other } else { value })
}

/// As in Jinja, what is no number becomes 0 and no error.
fn int(
    state: &State,
    value: Value,
    default: Option<Value>,
    base: Option<u32>,
    named: Kwargs,
) -> Value {
    minijinja::filters::int(state, &value, default, base, named).unwrap_or_else(|_| Value::from(0))
}

fn float(state: &State, value: Value, default: Option<Value>, named: Kwargs) -> Value {
    minijinja::filters::float(state, &value, default, named).unwrap_or_else(|_| Value::from(0.0))
}

/// For Jinja, whatever has a length and [] is a sequence: strings and mappings too.
fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Bytes, Map, Seq, String, Undefined};
    matches!(value.kind(), Seq | String | Map | Bytes | Undefined)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(invalid(format!("{RAISED}{message}{RAISED}")))
}

fn strftime_now(state: &State, format: String) -> Result<String, Error> {
    let variable = |name| state.lookup(name).and_then(|v| i64::try_from(v).ok()).unwrap_or(0);
    let offset = i32::try_from(variable(UTC_OFFSET)).unwrap_or(0);
    let zone = jiff::tz::Offset::from_seconds(offset).map_err(|e| invalid(e.to_string()))?;
    let now = jiff::Timestamp::from_second(variable(NOW)).map_err(|e| invalid(e.to_string()))?;
    let now = now.to_zoned(zone.to_time_zone());
    jiff::fmt::strtime::format(&format, &now).map_err(|e| invalid(format!("strftime_now: {e}")))
}
