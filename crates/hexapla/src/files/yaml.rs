//! YAML, as far as settings and vocabularies need it: one document of mappings, sequences and scalars.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// Deepest nesting.
const MAX_DEPTH: usize = 16;

/// Reads a document. Keys are texts; a plain scalar that spells a number, a truth value or nothing is that.
///
/// # Errors
/// What was expected and what was found, with the line: no YAML, a key that is no text or stands twice, an alias.
pub(crate) fn read_yaml(text: &str) -> Result<Value, (String, String)> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        line: 1,
    };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) => (),
            Event::StreamEnd | Event::DocumentEnd => return Ok(Value::Null),
            event => return reader.value(event, 0),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, (String, String)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(e)) => Err(("YAML".into(), e.to_string())),
            None => Ok(Event::StreamEnd),
        }
    }

    fn fault(&self, expected: &str, found: &str) -> (String, String) {
        (expected.into(), format!("{found} in line {}", self.line))
    }

    /// The value that `event` begins.
    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, (String, String)> {
        if depth > MAX_DEPTH {
            return Err(self.fault(&format!("at most {MAX_DEPTH} levels"), "more"));
        }
        match event {
            Event::Scalar(text, style, ..) => Ok(scalar(&text, style)),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Value::Array(items)),
                        event => items.push(self.value(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut map = Map::new();
                loop {
                    let key = match self.next()? {
                        Event::MappingEnd => return Ok(Value::Object(map)),
                        Event::Scalar(text, ..) => text.into_owned(),
                        _ => return Err(self.fault("a text as a key", "something else")),
                    };
                    let event = self.next()?;
                    let value = self.value(event, depth + 1)?;
                    let found = format!("`{key}` twice,");
                    if map.insert(key, value).is_some() {
                        return Err(self.fault("each key once", &found));
                    }
                }
            }
            Event::Alias(_) => Err(self.fault("no aliases", "one")),
            _ => Err(self.fault("a value", "none")),
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::from(text);
    }
    let number = || {
        let whole = text.parse::<i64>().map(Number::from);
        let real = || Number::from_f64(text.parse().ok()?);
        whole.ok().or_else(real)
    };
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => number().map_or_else(|| Value::from(text), Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_what_they_spell() {
        let text = "a: 1\nb: true\nc: [x, '2', 1e-3]\n\"</s>\": 0\nd:\n  e: ~\n  1: no\n";
        assert_eq!(
            read_yaml(text),
            Ok(
                json!({"a": 1, "b": true, "c": ["x", "2", 0.001], "</s>": 0, "d": {"e": null, "1": "no"}})
            )
        );
        assert_eq!(read_yaml(""), Ok(Value::Null));
    }

    #[test]
    fn faults_are_named() {
        let deep = "[".repeat(40);
        for (text, part) in [
            ("a: 1\na: 2", "each key once"),
            ("a: &x 1\nb: *x", "no aliases"),
            ("? [a]\n: b", "a text as a key"),
            ("a: [1", "YAML"),
            (&deep, "at most 16 levels"),
        ] {
            let (expected, _) = read_yaml(text).unwrap_err();
            assert!(expected.contains(part), "{text}: {expected}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn no_text_makes_it_panic(text in "([-a\\[\\]{}:,&*!|>'\"%@`#? \n\t~<é\u{85}\u{0}]|: |- ){0,60}") {
            let _ = read_yaml(&text);
        }
    }
}
