//! What templates take for granted of Python and of its Jinja, and this Jinja has not or has otherwise.

use std::fmt;
use std::io;

use minijinja::value::{Kwargs, Serde, Value, ValueKind, from_args};
use minijinja::{ErrorKind, Output, State, escape_formatter, filters};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::Regex;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

type Result<T> = std::result::Result<T, minijinja::Error>;

/// `source` with what this Jinja takes otherwise written so that both take it alike.
pub(super) fn rewritten(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    // `{% generation %}` tells a training which tokens are the model's own; here it is a block like others. And only here does the
    // line break behind `{% raw %}` fall away, as it does behind other blocks in both.
    let pattern = r"\{%([-+]?)\s*(?:(end)?generation\s*([-+]?)%\}|raw\s*%\}(\n))";
    // A pattern of this file is one.
    let Ok(marks) = Regex::new(pattern) else {
        return source;
    };
    let replaced = marks.replace_all(&source, |mark: &regex::Captures| {
        let part = |i: usize| mark.get(i).map_or("", |part| part.as_str());
        match (part(2), part(4)) {
            ("", "") => format!("{{%{} if true {}%}}", part(1), part(3)),
            (_, "") => format!("{{%{} endif {}%}}", part(1), part(3)),
            (_, line_break) => format!("{}{line_break}", part(0)),
        }
    });
    replaced.into_owned()
}

/// Nothing cannot be gone through; a text can, and is a sequence.
pub(super) fn is_iterable(value: &Value) -> bool {
    !value.is_none() && (value.as_str().is_some() || value.try_iter().is_ok())
}

/// Most values inside of one another that are put down together, and how deep they may lie.
const MOST_VALUES: usize = 1 << 16;
const MOST_LEVELS: usize = 200;

/// Refuses a value that would be put down without end: lists in lists grow with each step as fast as powers of two.
pub(super) fn bounded(value: &Value) -> Result<()> {
    let refused = |found: String| Err(minijinja::Error::new(ErrorKind::InvalidOperation, found));
    let mut left = vec![(value.clone(), 0)];
    let mut values = 0;
    while let Some((value, level)) = left.pop() {
        values += 1;
        if values > MOST_VALUES {
            return refused(format!("a value of more than {MOST_VALUES} parts"));
        }
        if level > MOST_LEVELS {
            return refused(format!("a value of more than {MOST_LEVELS} levels"));
        }
        let is_map = value.kind() == ValueKind::Map;
        if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
            continue;
        }
        for part in value.try_iter()?.take(MOST_VALUES + 1) {
            if is_map {
                left.push((value.get_item(&part)?, level + 1));
            }
            left.push((part, level + 1));
            if left.len() > 4 * MOST_VALUES {
                return refused(format!("a value of more than {MOST_VALUES} parts"));
            }
        }
    }
    Ok(())
}

/// Puts a value down, as Python would.
pub(super) fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<()> {
    bounded(value)?;
    escape_formatter(out, state, value)
}

/// A value as text.
pub(super) fn string(state: &State, value: &Value) -> Result<Value> {
    bounded(value)?;
    filters::string(state, value)
}

/// Today, by Python's format.
pub(super) fn strftime_now(format: &str) -> Result<String> {
    let now = chrono::Local::now();
    let mut text = String::new();
    fmt::Write::write_fmt(&mut text, format_args!("{}", now.format(format))).map_err(|_| {
        minijinja::Error::new(
            ErrorKind::InvalidOperation,
            format!("no such format of a date: `{format}`"),
        )
    })?;
    Ok(text)
}

/// A method of a text, a list or a mapping.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value> {
    let Some(text) = value.as_str().filter(|_| value.kind() == ValueKind::String) else {
        return unknown_method_callback(state, value, name, arguments);
    };
    let parts = |parts: [&str; 3]| parts.into_iter().map(Value::from).collect::<Value>();
    Ok(match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "partition" => {
            let (at,): (&str,) = from_args(arguments)?;
            match text.split_once(at) {
                Some((before, behind)) => parts([before, at, behind]),
                None => parts([text, "", ""]),
            }
        }
        "rpartition" => {
            let (at,): (&str,) = from_args(arguments)?;
            match text.rsplit_once(at) {
                Some((before, behind)) => parts([before, at, behind]),
                None => parts(["", "", text]),
            }
        }
        "rsplit" if !arguments.is_empty() => {
            let (at, most): (&str, Option<usize>) = from_args(arguments)?;
            let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
            let mut found: Vec<&str> = text.rsplitn(most, at).collect();
            found.reverse();
            found.into_iter().map(Value::from).collect()
        }
        _ => return unknown_method_callback(state, value, name, arguments),
    })
}

/// As `json.dumps` with `ensure_ascii` off: blanks behind commas and colons, and no character is escaped for HTML.
pub(super) fn to_json(value: &Value, kwargs: Kwargs) -> Result<String> {
    let failed = |e: &dyn fmt::Display| {
        minijinja::Error::new(ErrorKind::BadSerialization, format!("no JSON: {e}"))
    };
    bounded(value)?;
    let indent: Option<usize> = kwargs.get("indent")?;
    let ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    let sorted: Option<bool> = kwargs.get("sort_keys")?;
    let between: Option<(String, String)> = match kwargs.get::<Option<Vec<String>>>("separators")? {
        None => None,
        Some(both) => match <[String; 2]>::try_from(both) {
            Ok([comma, colon]) => Some((comma, colon)),
            Err(_) => return Err(failed(&"`separators` are two")),
        },
    };
    kwargs.assert_all_used()?;
    let sorted = match sorted {
        Some(true) => {
            let mut json = serde_json::to_value(value).map_err(|e| failed(&e))?;
            json.sort_all_objects();
            Value::from(Serde(json))
        }
        _ => value.clone(),
    };
    let mut bytes = Vec::new();
    let written = match indent {
        None => {
            let (comma, colon) = between.unwrap_or((", ".into(), ": ".into()));
            write_json(&mut bytes, &sorted, OneLine { comma, colon })
        }
        Some(_) if between.is_some() => return Err(failed(&"`indent` and `separators` together")),
        Some(indent) => {
            let blanks = " ".repeat(indent.min(8));
            let indented = PrettyFormatter::with_indent(blanks.as_bytes());
            write_json(&mut bytes, &sorted, indented)
        }
    };
    written.map_err(|e| failed(&e))?;
    let text = String::from_utf8(bytes).map_err(|e| failed(&e))?;
    Ok(match ascii {
        Some(true) => escaped(&text),
        _ => text,
    })
}

/// JSON in ASCII alone.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() {
            true => text.push(c),
            false => {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                text.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
    }
    text
}

fn write_json(to: &mut Vec<u8>, json: &Value, formatter: impl Formatter) -> serde_json::Result<()> {
    json.serialize(&mut serde_json::Serializer::with_formatter(to, formatter))
}

/// JSON in one line.
struct OneLine {
    comma: String,
    colon: String,
}

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            w.write_all(self.comma.as_bytes())
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin_array_value(w, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(self.colon.as_bytes())
    }
}
