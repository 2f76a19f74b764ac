//! The settings of a JSON file, taken one by one; what nobody took is refused.
//!
//! A setting that is passed over in silence is a model that computes something else than its maker meant.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::Folder;

const MAX_BYTES: u64 = 16 << 20;

/// The settings of one file that have not been taken yet. `null` counts as absent, as in transformers.
#[derive(Debug)]
pub(crate) struct Keys {
    place: String,
    map: Map<String, Value>,
    taken: Vec<String>,
}

impl Keys {
    /// Reads a JSON object.
    pub(crate) fn read(folder: &Folder, name: &str) -> Result<Self> {
        let place = folder.place(name).display().to_string();
        let bytes = folder.read(name, MAX_BYTES)?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Keys {
                place,
                map,
                taken: Vec::new(),
            }),
            Ok(other) => Err(Error::new("the settings cannot be read")
                .at(place)
                .expected("a JSON object")
                .found(shortened(&other))
                .hint("copy or download the file again")),
            Err(e) => Err(Error::new("the settings cannot be read")
                .at(place)
                .expected("a JSON object")
                .found(e.to_string())
                .hint("copy or download the file again")),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(value: Value) -> Self {
        let Value::Object(map) = value else {
            panic!("an object")
        };
        Keys {
            place: "config.json".into(),
            map,
            taken: Vec::new(),
        }
    }

    /// The value of a setting.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.taken.push(key.to_string());
        self.map.remove(key).filter(|value| !value.is_null())
    }

    fn get<T>(
        &mut self,
        key: &str,
        kind: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => match read(&value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.error(key).expected(kind).found(shortened(&value))),
            },
        }
    }

    /// A count.
    pub(crate) fn size(&mut self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number, 0 or more", |v| {
            v.as_u64().and_then(|n| n.try_into().ok())
        })
    }

    /// A real number.
    pub(crate) fn number(&mut self, key: &str) -> Result<Option<f32>> {
        self.get(key, "a number", |v| {
            v.as_f64().map(|n| n as f32).filter(|n| n.is_finite())
        })
    }

    /// True or false.
    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", Value::as_bool)
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>> {
        self.get(key, "a text", |v| v.as_str().map(str::to_string))
    }

    /// One token's id, bare or as a list of one.
    pub(crate) fn id(&mut self, key: &str) -> Result<Option<u32>> {
        self.get(key, "the id of one token", |v| {
            match v.as_array().map(Vec::as_slice) {
                Some([one]) => as_id(one),
                Some(_) => None,
                None => as_id(v),
            }
        })
    }

    /// A list of ids.
    pub(crate) fn ids(&mut self, key: &str) -> Result<Vec<u32>> {
        let list = self.get(key, "a list of ids", |v| {
            v.as_array()?.iter().map(as_id).collect()
        })?;
        Ok(list.unwrap_or_default())
    }

    /// A list of lists of one id each.
    pub(crate) fn lists_of_one_id(&mut self, key: &str) -> Result<Vec<u32>> {
        let one = |v: &Value| match v.as_array()?.as_slice() {
            [one] => as_id(one),
            _ => None,
        };
        let list = self.get(key, "lists of one id each", |v| {
            v.as_array()?.iter().map(one).collect()
        })?;
        Ok(list.unwrap_or_default())
    }

    /// Refuses every value of `key` but these (absence passes).
    pub(crate) fn only(&mut self, key: &str, allowed: &[Value]) -> Result<()> {
        let Some(value) = self.take(key) else {
            return Ok(());
        };
        let equal = |a: &Value| *a == value || (a.is_number() && a.as_f64() == value.as_f64());
        if allowed.iter().any(equal) {
            return Ok(());
        }
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let expected = if allowed.is_empty() {
            "null".to_string()
        } else {
            allowed.join(" or ")
        };
        Err(self.error(key).expected(expected).found(shortened(&value)))
    }

    /// Passes over settings that change nothing that is computed.
    pub(crate) fn pass_over(&mut self, keys: &[&str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// An error about one setting.
    pub(crate) fn error(&self, key: &str) -> Error {
        Error::new("the model cannot be used with this setting")
            .at(format!("{}, `{key}`", self.place))
            .hint("only a model that is computed exactly as its maker meant is run")
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(self) -> Result<()> {
        let Some((key, value)) = self.map.into_iter().find(|(_, value)| !value.is_null()) else {
            return Ok(());
        };
        let nearest = self
            .taken
            .iter()
            .map(|known| (strsim::damerau_levenshtein(known, &key), known))
            .min()
            .filter(|(distance, _)| *distance <= 2);
        let error = Error::new("the model has a setting that is not known here")
            .at(format!("{}, `{key}`", self.place))
            .expected("only known settings: another could change what is computed")
            .found(shortened(&value));
        Err(match nearest {
            Some((_, known)) => error.hint(format!("did you mean `{known}`?")),
            None => error.hint("if it changes nothing, remove it from the file"),
        })
    }
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A float as people write it: 0.1 stays 0.1, where a plain widening to f64 would print 0.10000000149011612.
pub(crate) fn float(value: f32) -> Value {
    value
        .to_string()
        .parse::<f64>()
        .map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_took_is_refused_with_the_nearest_name() {
        let mut keys = Keys::of(json!({"d_model": 8, "normalise_before": true, "absent": null}));
        assert_eq!(keys.size("d_model").unwrap(), Some(8));
        keys.only("normalize_before", &[json!(false)]).unwrap();
        let e = keys.finish().unwrap_err().to_string();
        assert!(
            e.contains("`normalise_before`") && e.contains("did you mean `normalize_before`"),
            "{e}"
        );
        Keys::of(json!({"absent": null})).finish().unwrap();
    }

    #[test]
    fn values_of_another_kind_are_refused_by_name() {
        let refused =
            |value: Value, read: fn(&mut Keys) -> bool| read(&mut Keys::of(json!({"k": value})));
        assert!(refused(json!(-1), |k| k.size("k").is_err()));
        assert!(refused(json!("8"), |k| k.size("k").is_err()));
        assert!(refused(json!(1.5), |k| k.id("k").is_err()));
        assert!(refused(json!([1, 2]), |k| k.id("k").is_err()));
        assert!(refused(json!([7]), |k| k.id("k").unwrap() == Some(7)));
        assert!(refused(json!(1e99), |k| k.number("k").is_err()));
        assert!(refused(json!([[1], [2, 3]]), |k| k
            .lists_of_one_id("k")
            .is_err()));
        assert!(refused(json!(0), |k| k.only("k", &[json!(0.0)]).is_ok()));
        assert!(refused(json!(true), |k| k
            .only("k", &[json!(false)])
            .is_err()));
    }

    #[test]
    fn floats_are_written_as_people_write_them() {
        assert_eq!(float(0.1).to_string(), "0.1");
        assert_eq!(float(1e-5).as_f64().map(|n| n as f32), Some(1e-5));
    }
}
