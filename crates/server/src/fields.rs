//! What a request says, field by field: JSON, forms and query strings alike.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// The fields of a request that were not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// Whether numbers and flags may be written as texts, for there is nothing else in a form.
    is_form: bool,
}

/// One text, or several.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Texts {
    pub(crate) texts: Vec<String>,
    /// Whether they came as a list, as then the answer is one too.
    pub(crate) is_list: bool,
}

impl Fields {
    /// Those of a JSON object.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn of_json(body: &[u8]) -> Result<Self, Refusal> {
        let value = serde_json::from_slice(body)
            .map_err(|e| Refusal::bad(format!("the body is no JSON: {e}")))?;
        let Value::Object(fields) = value else {
            return Err(Refusal::bad("the body must be a JSON object"));
        };
        Ok(Fields::of_object(fields))
    }

    /// Those of an object that was read already.
    pub(crate) fn of_object(fields: Map<String, Value>) -> Self {
        Fields {
            fields,
            is_form: false,
        }
    }

    /// Those of a form, or of a query string. A field that comes several times is a list.
    pub(crate) fn of_form<'a>(
        pairs: impl IntoIterator<Item = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>,
    ) -> Self {
        let mut all = Fields {
            fields: Map::new(),
            is_form: true,
        };
        for (name, value) in pairs {
            all.push(&name, value.into_owned());
        }
        all
    }

    /// A field of a form.
    pub(crate) fn push(&mut self, name: &str, value: String) {
        let name = name.strip_suffix("[]").unwrap_or(name);
        let value = Value::String(value);
        match self.fields.get_mut(name) {
            None => {
                self.fields.insert(name.to_string(), value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }

    /// These, and of `others` those that are not among them.
    pub(crate) fn or(mut self, others: Fields) -> Self {
        for (name, value) in others.fields {
            if !self.fields.contains_key(&name) {
                self.is_form |= others.is_form;
                self.fields.insert(name, value);
            }
        }
        self
    }

    /// A field, whatever it is; one that is null is absent.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    /// A text that must be there.
    pub(crate) fn needed_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// One text or several, at most so many.
    pub(crate) fn texts(&mut self, name: &str, most: usize) -> Result<Option<Texts>, Refusal> {
        let expected = "a text, or a list of texts";
        let value = match self.value(name) {
            None => return Ok(None),
            Some(Value::String(text)) => {
                return Ok(Some(Texts {
                    texts: vec![text],
                    is_list: false,
                }));
            }
            Some(value) => value,
        };
        let Value::Array(list) = value else {
            return Err(wrong(name, expected, &value));
        };
        bounded(name, list.len(), most)?;
        let texts = list.into_iter().map(|value| match value {
            Value::String(text) => Ok(text),
            other => Err(wrong(name, expected, &other)),
        });
        Ok(Some(Texts {
            texts: texts.collect::<Result<_, _>>()?,
            is_list: true,
        }))
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if self.is_form => match text.to_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => Ok(Some(true)),
                "false" | "0" | "off" | "no" | "" => Ok(Some(false)),
                _ => Err(Refusal::of_field(name, "true or false", &text)),
            },
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// A whole number.
    pub(crate) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = match &value {
            // A whole number is one however it is written.
            Value::Number(number) => number.as_i64().or_else(|| {
                number
                    .as_f64()
                    .filter(|x| x.fract() == 0.0 && x.abs() < 1e15)
                    .map(|x| x as i64)
            }),
            Value::String(text) if self.is_form => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        number
            .map(Some)
            .ok_or_else(|| wrong(name, &expected, &value))
    }

    /// A whole number that is none below zero.
    pub(crate) fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Refusal> {
        let as_i64 = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let range = as_i64(*range.start())..=as_i64(*range.end());
        Ok(self
            .integer(name, range)?
            .and_then(|number| usize::try_from(number).ok()))
    }

    /// A number.
    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if self.is_form => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        let expected = format!("a number from {} to {}", range.start(), range.end());
        number
            .map(Some)
            .ok_or_else(|| wrong(name, &expected, &value))
    }

    /// The fields of a field.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>, Refusal> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Fields {
                fields,
                is_form: false,
            })),
            Some(other) => Err(wrong(name, "an object", &other)),
        }
    }

    /// Sets a field.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_string(), value);
    }

    /// Lets go of fields that change nothing of the answer.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.fields.remove(*name);
        }
    }

    /// Refuses what is left: who asks for what is not known would get something else than they think.
    ///
    /// # Errors
    /// There is something left that is not null.
    pub(crate) fn nothing_left(self) -> Result<(), Refusal> {
        let left = self.fields.into_iter().find(|(_, value)| !value.is_null());
        match left {
            None => Ok(()),
            Some((name, _)) => {
                Err(Refusal::bad(format!("`{name}` is not supported")).in_field(&name))
            }
        }
    }
}

/// A field must be there.
pub(crate) fn missing(name: &str) -> Refusal {
    Refusal::bad(format!("`{name}` is missing")).in_field(name)
}

/// A list may have so many members.
pub(crate) fn bounded(name: &str, len: usize, most: usize) -> Result<(), Refusal> {
    match len <= most {
        true => Ok(()),
        false => Err(Refusal::of_field(
            name,
            &format!("a list of at most {most}"),
            &format!("one of {len}"),
        )),
    }
}

/// A field's value is of the wrong kind, or out of range.
pub(crate) fn wrong(name: &str, expected: &str, found: &Value) -> Refusal {
    Refusal::of_field(name, expected, &found.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Fields {
        Fields::of_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_are_held_to_their_ranges() {
        let text = r#"{"a": -1, "b": 1e308, "c": 1000000000, "d": 2.5, "e": 3.0, "f": "4", "g": null, "h": 18446744073709551615}"#;
        let mut fields = json(text);
        for name in ["a", "b", "c", "d", "f", "h"] {
            let mut fields = json(text);
            let refused = fields.count(name, 0..=100).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some(name));
        }
        assert_eq!(fields.count("e", 0..=100).unwrap(), Some(3));
        assert_eq!(fields.count("g", 0..=100).unwrap(), None);
        assert!(fields.number("b", 0.0..=2.0).is_err());
        assert_eq!(fields.number("d", 0.0..=2.5).unwrap(), Some(2.5));
        let mut form = Fields::of_form([("f".into(), "4".into()), ("n".into(), "NaN".into())]);
        assert_eq!(form.count("f", 0..=4).unwrap(), Some(4));
        assert!(form.number("n", 0.0..=2.0).is_err());
    }

    #[test]
    fn texts_come_alone_or_in_lists() {
        let mut fields = json(r#"{"a": "x", "b": ["x", "y"], "c": ["x", 1], "d": 5, "e": []}"#);
        let a = fields.texts("a", 2).unwrap().unwrap();
        assert!(a.texts == ["x"] && !a.is_list);
        let b = fields.texts("b", 2).unwrap().unwrap();
        assert!(b.texts == ["x", "y"] && b.is_list);
        assert!(json(r#"{"b": ["x", "y"]}"#).texts("b", 1).is_err());
        assert!(fields.texts("c", 2).is_err() && fields.texts("d", 2).is_err());
        assert_eq!(fields.texts("e", 2).unwrap().unwrap().texts.len(), 0);
        let mut form = Fields::of_form([("q".into(), "x".into()), ("q".into(), "y".into())]);
        assert_eq!(form.texts("q", 2).unwrap().unwrap().texts, ["x", "y"]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let mut fields = json(r#"{"user": "me", "tools": [], "stop": null}"#);
        fields.ignore(&["user"]);
        let refused = fields.nothing_left().unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("tools"));
        assert!(json(r#"{"stop": null}"#).nothing_left().is_ok());
        for text in ["", "[]", "3", "{\"a\": \"\\ud800\"}", &"[".repeat(100_000)] {
            assert!(Fields::of_json(text.as_bytes()).is_err());
        }
    }
}
