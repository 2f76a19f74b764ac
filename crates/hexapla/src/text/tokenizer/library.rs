//! A `tokenizer.json` for the library that it is for. Its reader would copy the vocabulary three times on the way; here the model is
//! read once, straight from the text: with 30,000 pieces that is most of the time from a program's start to its first answer.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokenizers::AddedToken;
use tokenizers::models::ModelWrapper;

use super::guarded;
use crate::error::{Error, Result};

pub(super) fn broken() -> Error {
    Error::model("the tokenizer cannot be used")
        .hint("copy or download it again, or train one with `hexapla tokenizer train`")
}

/// The parts of a `tokenizer.json`.
#[derive(Debug)]
pub(super) struct TokenizerFile<'a> {
    /// All but the model's vocabulary and merges.
    pub(super) parts: Value,
    /// The merges of a model whose right sides have a prefix.
    pub(super) merges_with_prefix: Vec<Value>,
    vocab: Option<&'a RawValue>,
    merges: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(flatten)]
    parts: Map<String, Value>,
}

#[derive(Deserialize)]
struct ModelParts<'a> {
    #[serde(borrow)]
    vocab: Option<&'a RawValue>,
    #[serde(borrow)]
    merges: Option<&'a RawValue>,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

impl<'a> TokenizerFile<'a> {
    /// Takes `json` apart.
    ///
    /// # Errors
    /// It is no JSON, or has no model.
    pub(super) fn read(json: &'a str) -> Result<Self> {
        let whole: Whole = serde_json::from_str(json)
            .map_err(|e| broken().expected("a tokenizer.json").found(e.to_string()))?;
        let mut parts = Value::Object(whole.parts);
        let model = whole.model.map(|model| serde_json::from_str(model.get()));
        let Some(Ok(ModelParts {
            vocab,
            merges,
            settings,
        })) = model
        else {
            return Err(broken().at("model").expected("an object").found("none"));
        };
        let has_prefix = settings.get("continuing_subword_prefix");
        let has_prefix = has_prefix
            .and_then(Value::as_str)
            .is_some_and(|p| !p.is_empty());
        parts["model"] = Value::Object(settings);
        let merges_with_prefix = merges.filter(|_| has_prefix);
        let checked = merges_with_prefix.map(|merges| serde_json::from_str(merges.get()));
        Ok(TokenizerFile {
            parts,
            merges_with_prefix: checked
                .and_then(std::result::Result::ok)
                .unwrap_or_default(),
            vocab,
            merges,
        })
    }

    /// The tokenizer as the library has it.
    ///
    /// # Errors
    /// The library does not take it.
    pub(super) fn build(&self) -> Result<tokenizers::Tokenizer> {
        guarded("cannot read the tokenizer", || {
            let mut parts = self.parts.clone();
            let added = parts["added_tokens"].take();
            let added: Option<Vec<AddedToken>> = serde_json::from_value(added)?;
            // The library numbers added tokens as it reads them, so the model has to be there before.
            parts["added_tokens"] = json!([]);
            parts["model"] = json!({"type": "WordLevel", "vocab": {}, "unk_token": ""});
            let mut tokenizer: tokenizers::Tokenizer = parts.to_string().parse()?;
            tokenizer.with_model(self.model()?);
            tokenizer.add_tokens(&added.unwrap_or_default());
            Ok(tokenizer)
        })
    }

    fn model(&self) -> tokenizers::Result<ModelWrapper> {
        let settings = &self.parts["model"];
        let kind = settings["type"].as_str();
        // What the library does not know it does not skip either.
        let known: &[&str] = match kind {
            Some("BPE") => &[
                "dropout",
                "unk_token",
                "continuing_subword_prefix",
                "end_of_word_suffix",
                "fuse_unk",
                "byte_fallback",
                "ignore_merges",
            ],
            Some("WordPiece") => &[
                "unk_token",
                "continuing_subword_prefix",
                "max_input_chars_per_word",
            ],
            Some("WordLevel") => &["unk_token"],
            Some("Unigram") => &["unk_id", "byte_fallback"],
            // The library finds out what files of old do not say.
            _ => &[],
        };
        let settings = settings.as_object().into_iter().flatten();
        let settings = settings.filter(|(key, _)| kind.is_none() || known.contains(&key.as_str()));
        let mut fields: Vec<String> = settings
            .map(|(key, value)| format!("{}:{value}", json!(key)))
            .collect();
        let lists = [("vocab", self.vocab), ("merges", self.merges)];
        let lists = lists
            .into_iter()
            .filter_map(|(name, list)| Some((name, list?)));
        fields.extend(lists.map(|(name, list)| format!("\"{name}\":{}", list.get())));
        let text = format!("{{{}}}", fields.join(","));
        let model = match kind {
            Some("BPE") => serde_json::from_str(&text).map(ModelWrapper::BPE),
            Some("WordPiece") => serde_json::from_str(&text).map(ModelWrapper::WordPiece),
            Some("WordLevel") => serde_json::from_str(&text).map(ModelWrapper::WordLevel),
            Some("Unigram") => serde_json::from_str(&text).map(ModelWrapper::Unigram),
            Some(other) => return Err(format!("unknown model `{other}`").into()),
            None => serde_json::from_str(&text),
        };
        model.map_err(|e| {
            // Which column of this text it is would help nobody.
            let said = e.to_string();
            let what = said
                .rsplit_once(" at line ")
                .map_or(&*said, |(what, _)| what);
            what.to_string().into()
        })
    }

    /// The largest id of the vocabulary, which names its ids or, with unigrams, counts them.
    pub(super) fn largest_id(&self) -> Option<u32> {
        let largest: LargestId = serde_json::from_str(self.vocab?.get()).ok()?;
        largest.0
    }
}

struct LargestId(Option<u32>);

impl<'de> Deserialize<'de> for LargestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Ids;
        impl<'de> Visitor<'de> for Ids {
            type Value = LargestId;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<LargestId, A::Error> {
                let mut largest = None;
                while let Some((IgnoredAny, id)) = map.next_entry::<_, u32>()? {
                    largest = largest.max(Some(id));
                }
                Ok(LargestId(largest))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> std::result::Result<LargestId, A::Error> {
                let mut count = 0u32;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(LargestId(count.checked_sub(1)))
            }
        }
        deserializer.deserialize_any(Ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a tokenizer is what the library's own reader makes of the file.
    fn same(json: &Value) -> bool {
        let json = json.to_string();
        let own: tokenizers::Tokenizer = json.parse().unwrap();
        let file = TokenizerFile::read(&json).unwrap();
        let built = file.build().unwrap();
        let as_json = |t: &tokenizers::Tokenizer| -> Value {
            serde_json::from_str(&t.to_string(false).unwrap()).unwrap()
        };
        let largest = own.get_vocab(false).into_values().max();
        as_json(&own) == as_json(&built) && file.largest_id() == largest
    }

    #[test]
    fn every_kind_of_model_is_as_the_library_reads_it() {
        let added = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": true, "rstrip": false,
                "normalized": false, "special": true})
        };
        let whole = |model: Value| {
            json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": {"type": "NFC"},
                "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": {"type": "Fuse"},
                "added_tokens": [added(1, "b"), added(7, "<new>")], "model": model})
        };
        let ids = json!({"a": 0, "b": 1, "ab": 2, "[UNK]": 3, "\\u0022": 6});
        let merges = json!([["a", "b"]]);
        let models = [
            json!({"type": "BPE", "vocab": ids, "merges": merges, "unk_token": "[UNK]", "fuse_unk": true,
                "byte_fallback": false, "ignore_merges": true, "dropout": null, "of_tomorrow": [1]}),
            json!({"type": "BPE", "vocab": ids, "merges": ["a b"], "end_of_word_suffix": "</w>"}),
            json!({"type": "WordPiece", "vocab": ids, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 9, "dropout": null}),
            json!({"type": "WordLevel", "vocab": ids, "unk_token": "[UNK]"}),
            json!({"type": "Unigram", "unk_id": 1, "byte_fallback": true, "vocab": [["a", -1.5], ["b", -2.0], ["ab", -0.1]]}),
            // Of old, without a type.
            json!({"vocab": ids, "unk_token": "[UNK]"}),
            json!({"vocab": ids, "merges": merges, "dropout": null, "unk_token": null, "fuse_unk": false,
                "continuing_subword_prefix": null, "end_of_word_suffix": null}),
        ];
        for model in models {
            assert!(same(&whole(model.clone())), "{model}");
        }
    }

    #[test]
    fn what_is_no_model_is_an_error() {
        for json in [
            "",
            "{}",
            "[]",
            "{\"model\": 3}",
            "{\"model\": {\"vocab\": {}",
        ] {
            assert!(TokenizerFile::read(json).is_err(), "{json}");
        }
        for model in [
            "{}",
            "{\"type\": \"BPE\"}",
            "{\"type\": \"other\", \"vocab\": {}}",
            "{\"type\": \"WordPiece\", \"vocab\": {\"a\": -1}, \"unk_token\": \"a\"}",
        ] {
            let json = format!("{{\"version\": \"1.0\", \"model\": {model}}}");
            let file = TokenizerFile::read(&json).unwrap();
            assert!(file.build().is_err(), "{model}");
        }
    }
}
