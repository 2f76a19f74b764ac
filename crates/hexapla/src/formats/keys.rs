//! The settings of a JSON file, taken one by one; what nobody took is refused.
//!
//! A setting that is passed over in silence is a model that computes something else than its maker meant.

use serde_json::{Map, Value};

use crate::config::Activation;
use crate::error::{Error, Result};
use crate::files::Folder;

const MAX_BYTES: u64 = 16 << 20;

/// The settings of one file that have not been taken yet. `null` counts as absent, as in transformers.
#[derive(Debug)]
pub(crate) struct Keys {
    location: String,
    map: Map<String, Value>,
    taken: Vec<String>,
    /// Settings whose values are not computed here, to be told together.
    refused: Vec<Refused>,
}

/// A setting that is refused.
#[derive(Debug)]
struct Refused {
    /// File and key.
    location: String,
    expected: String,
    found: String,
    /// Of a key that is not known: a known one of nearly this name, if there is one.
    unknown: Option<Option<String>>,
}

impl Keys {
    /// Reads a JSON object.
    pub(crate) fn read(folder: &Folder, name: &str) -> Result<Self> {
        let location = folder.path_of(name).display().to_string();
        let bytes = folder.read(name, MAX_BYTES)?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Keys::of_map(location, map)),
            Ok(other) => Err(Error::model("the settings cannot be read")
                .at(location)
                .expected("a JSON object")
                .found(shortened(&other))
                .hint("copy or download the file again")),
            Err(e) => Err(Error::model("the settings cannot be read")
                .at(location)
                .expected("a JSON object")
                .found(e.to_string())
                .hint("copy or download the file again")),
        }
    }

    /// Settings that stand at `location`.
    pub(crate) fn of_map(location: String, map: Map<String, Value>) -> Self {
        Keys {
            location,
            map,
            taken: Vec::new(),
            refused: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(value: Value) -> Self {
        let Value::Object(map) = value else {
            panic!("an object")
        };
        Keys::of_map("config.json".into(), map)
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

    /// A real number in full.
    pub(crate) fn real(&mut self, key: &str) -> Result<Option<f64>> {
        let finite = |v: &Value| v.as_f64().filter(|n| n.is_finite());
        self.get(key, "a number", finite)
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>> {
        let text = |v: &Value| v.as_str().map(str::to_string);
        self.get(key, "a list of texts", |v| {
            v.as_array()?.iter().map(text).collect()
        })
    }

    /// Settings that stand inside one.
    pub(crate) fn object(&mut self, key: &str) -> Result<Option<Keys>> {
        let location = format!("{}, `{key}`", self.location);
        let map = self.get(key, "an object", |v| v.as_object().cloned())?;
        Ok(map.map(|map| Keys::of_map(location, map)))
    }

    /// Whether it says that there is none.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// True or false.
    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", Value::as_bool)
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>> {
        self.get(key, "a text", |v| v.as_str().map(str::to_string))
    }

    /// An activation by its name in transformers.
    pub(crate) fn activation(&mut self, key: &str, absent: Activation) -> Result<Activation> {
        let Some(name) = self.text(key)? else {
            return Ok(absent);
        };
        activation_named(&name).ok_or_else(|| {
            let names: Vec<&str> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
            self.error(key)
                .expected(format!("one of {}", names.join(", ")))
                .found(name)
        })
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

    /// One token's id, or a list of such.
    pub(crate) fn id_or_ids(&mut self, key: &str) -> Result<Vec<u32>> {
        let list = self.get(key, "the id of a token, or a list of ids", |v| {
            match v.as_array() {
                Some(list) => list.iter().map(as_id).collect(),
                None => as_id(v).map(|id| vec![id]),
            }
        })?;
        Ok(list.unwrap_or_default())
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

    /// Refuses every value of `key` but these (absence passes). [`Keys::finish`] tells of all that was refused.
    pub(crate) fn only(&mut self, key: &str, allowed: &[Value]) {
        let Some(value) = self.take(key) else {
            return;
        };
        let equal = |a: &Value| *a == value || (a.is_number() && a.as_f64() == value.as_f64());
        if allowed.iter().any(equal) {
            return;
        }
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let expected = if allowed.is_empty() {
            "null".to_string()
        } else {
            allowed.join(" or ")
        };
        self.refused.push(Refused {
            location: format!("{}, `{key}`", self.location),
            expected,
            found: shortened(&value),
            unknown: None,
        });
    }

    /// Takes over what another file's settings are refused for.
    pub(crate) fn take_refusals(&mut self, mut other: Keys) {
        other.refuse_unknown();
        self.refused.append(&mut other.refused);
    }

    /// Passes over settings that change nothing that is computed.
    pub(crate) fn pass_over(&mut self, keys: &[&str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// Passes over what the settings of every family may hold, and what changes nothing that is computed.
    pub(crate) fn pass_over_common(&mut self) {
        self.pass_over(WITHOUT_EFFECT);
    }

    /// An error about one setting.
    pub(crate) fn error(&self, key: &str) -> Error {
        Error::model("the model cannot be used with this setting")
            .at(format!("{}, `{key}`", self.location))
            .hint("only a model that is computed exactly as its maker meant is run")
    }

    /// Refuses what was not taken.
    fn refuse_unknown(&mut self) {
        let left = std::mem::take(&mut self.map);
        for (key, value) in left.into_iter().filter(|(_, value)| !value.is_null()) {
            let nearest = self
                .taken
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, &key), known))
                .min()
                .filter(|(distance, _)| *distance <= 2);
            self.refused.push(Refused {
                location: format!("{}, `{key}`", self.location),
                expected: "only known settings: another could change what is computed".into(),
                found: shortened(&value),
                unknown: Some(nearest.map(|(_, known)| known.clone())),
            });
        }
    }

    /// Refuses what was not taken, and tells of all that was refused.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.refuse_unknown();
        let Some(first) = self.refused.first() else {
            return Ok(());
        };
        let error = |what: &str| {
            Error::model(what)
                .at(&first.location)
                .expected(&first.expected)
                .found(&first.found)
        };
        let others: Vec<String> = self.refused[1..]
            .iter()
            .map(|r| format!("{}: {}", r.location, r.found))
            .collect();
        if !others.is_empty() {
            return Err(error("the model cannot be used with these settings")
                .hint(format!("the same with {}", others.join("; "))));
        }
        let not_known = "the model has a setting that is not known here";
        Err(match &first.unknown {
            Some(Some(known)) => error(not_known).hint(format!("did you mean `{known}`?")),
            Some(None) => error(not_known).hint("if it changes nothing, remove it from the file"),
            None => error("the model cannot be used with this setting")
                .hint("only a model that is computed exactly as its maker meant is run"),
        })
    }
}

/// Metadata, training, and the form of what a call returns, in the settings of every family.
const WITHOUT_EFFECT: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "attn_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "gradient_checkpointing",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "return_dict",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
];

/// Activations by their names in transformers; of several names the first is written.
const ACTIVATIONS: [(&str, Activation); 11] = [
    ("relu", Activation::Relu),
    ("relu2", Activation::ReluSquared),
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("swish", Activation::Swish),
    ("silu", Activation::Swish),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("quick_gelu", Activation::GeluSigmoid),
    ("tanh", Activation::Tanh),
];

/// The activation that transformers calls `name`.
pub(crate) fn activation_named(name: &str) -> Option<Activation> {
    let known = ACTIVATIONS.iter().find(|(known, _)| *known == name);
    known.map(|(_, activation)| *activation)
}

/// Its name in transformers.
pub(crate) fn activation_name(activation: Activation) -> &'static str {
    let known = ACTIVATIONS.iter().find(|(_, known)| *known == activation);
    known.map_or("", |(name, _)| name)
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
        keys.only("normalize_before", &[json!(false)]);
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
        let only = |k: &mut Keys, allowed: Value| {
            k.only("k", &[allowed]);
            k.refused.is_empty()
        };
        assert!(only(&mut Keys::of(json!({"k": 0})), json!(0.0)));
        assert!(!only(&mut Keys::of(json!({"k": true})), json!(false)));
        assert!(refused(json!([7, 8]), |k| k.id_or_ids("k").unwrap() == [7, 8]));
        assert!(refused(json!(7), |k| k.id_or_ids("k").unwrap() == [7]));
    }

    #[test]
    fn all_that_is_refused_is_told_at_once() {
        let mut keys = Keys::of(json!({"a": true, "b": 1, "c": "x", "license": "mit"}));
        keys.only("a", &[json!(false)]);
        keys.pass_over(&["license"]);
        let mut other = Keys::of(json!({"d": 2}));
        other.location = "generation_config.json".into();
        keys.take_refusals(other);
        let e = keys.finish().unwrap_err().to_string();
        for part in [
            "config.json, `a`",
            "`b`: 1",
            "`c`: \"x\"",
            "generation_config.json, `d`: 2",
        ] {
            assert!(e.contains(part), "{e}");
        }
        assert!(!e.contains("license"), "{e}");
    }

    #[test]
    fn floats_are_written_as_people_write_them() {
        assert_eq!(float(0.1).to_string(), "0.1");
        assert_eq!(float(1e-5).as_f64().map(|n| n as f32), Some(1e-5));
    }
}
