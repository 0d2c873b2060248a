//! Methods of Python's str, dict and list that templates call and minijinja_contrib's pycompat
//! does not have.
use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, State};

use crate::python::invalid;

const MAX_PADDED_CHARS: usize = 4096;

pub fn call(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let known = match value.kind() {
        ValueKind::String => call_on_string(value.as_str().unwrap_or(""), name, args)?,
        ValueKind::Map if name == "copy" && args.is_empty() => Some(value.clone()),
        ValueKind::Seq if name == "index" => Some(index_in_list(value, args)?),
        _ => None,
    };
    match known {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn call_on_string(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let needed = || {
        let first = args.first().and_then(Value::as_str);
        first.ok_or_else(|| invalid(format!("{name} needs a string")))
    };
    Ok(Some(match name {
        "rsplit" => right_split(text, args)?,
        "partition" => {
            let parts = text.split_once(separator(name, args)?);
            three_parts(parts.map(|(a, b)| [a, needed().unwrap_or(""), b]), [text, "", ""])
        }
        "rpartition" => {
            let parts = text.rsplit_once(separator(name, args)?);
            three_parts(parts.map(|(a, b)| [a, needed().unwrap_or(""), b]), ["", "", text])
        }
        "index" => {
            let at = text.find(needed()?).ok_or_else(|| invalid("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "removeprefix" => Value::from(text.strip_prefix(needed()?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(needed()?).unwrap_or(text)),
        "swapcase" => Value::from(swap_case(text)),
        "ljust" | "rjust" | "center" | "zfill" => pad(text, name, args)?,
        _ => return Ok(None),
    }))
}

fn separator<'a>(name: &str, args: &'a [Value]) -> Result<&'a str, Error> {
    let given = args.first().and_then(Value::as_str).filter(|separator| !separator.is_empty());
    given.ok_or_else(|| invalid(format!("{name} needs a separator")))
}

fn three_parts(found: Option<[&str; 3]>, otherwise: [&str; 3]) -> Value {
    Value::from(Tuple::from(found.unwrap_or(otherwise).map(Value::from)))
}

fn right_split(text: &str, args: &[Value]) -> Result<Value, Error> {
    let limit = match args.get(1) {
        Some(n) => usize::try_from(i64::try_from(n.clone())?).ok(),
        None => None,
    };
    let mut parts: Vec<Value> = match args.first().filter(|a| !a.is_none()) {
        Some(_) => {
            let most = limit.map_or(usize::MAX, |n| n.saturating_add(1));
            text.rsplitn(most, separator("rsplit", args)?).map(Value::from).collect()
        }
        None if limit.is_none() => text.split_whitespace().rev().map(Value::from).collect(),
        None => return Err(invalid("rsplit with a limit needs a separator")),
    };
    parts.reverse();
    Ok(Value::from(parts))
}

fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

fn pad(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let width = args.first().ok_or_else(|| invalid(format!("{name} needs a width")))?;
    let width = usize::try_from(width.clone())?.min(MAX_PADDED_CHARS);
    let missing = width.saturating_sub(text.chars().count());
    let fill = args.get(1).and_then(Value::as_str).and_then(|s| s.chars().next()).unwrap_or(' ');
    let run = |n: usize| String::from(fill).repeat(n);
    Ok(Value::from(match name {
        "ljust" => format!("{text}{}", run(missing)),
        "rjust" => format!("{}{text}", run(missing)),
        "center" => {
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", run(left), run(missing - left))
        }
        _ => {
            let sign = usize::from(text.starts_with(['+', '-']));
            format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
        }
    }))
}

fn index_in_list(list: &Value, args: &[Value]) -> Result<Value, Error> {
    let wanted = args.first().ok_or_else(|| invalid("index needs a value"))?;
    let at = list.try_iter()?.position(|item| &item == wanted);
    at.map(Value::from).ok_or_else(|| invalid("value is not in list"))
}
