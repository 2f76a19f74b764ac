//! The files of a model as Marian NMT writes them: weights (`.npz`), vocabularies, and the settings that name them.

use serde_json::Value;

use super::folder::Folder;
use super::yaml::read_yaml;
use crate::error::{Error, Result};

/// How to decode, as `marian-decoder --config` takes it.
const SETTINGS: &str = "decoder.yml";
/// How the name ends of what Marian leaves beside a model `NAME.npz`.
const SETTINGS_BESIDE: &str = ".npz.decoder.yml";
/// Largest file of settings or of a vocabulary.
const MAX_BYTES: u64 = 64 << 20;

/// The files that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct MarianFiles {
    /// Names of the weights, the vocabularies of both sides, and how to decode.
    pub settings: String,
    /// Weights.
    pub weights: String,
    /// The source's vocabulary and the target's.
    pub vocabularies: [String; 2],
    /// Hypotheses in a beam.
    pub beam_size: usize,
    /// The exponent of the length that a score is divided by.
    pub normalize: f32,
}

impl MarianFiles {
    /// The files that a tokenizer needs.
    pub fn tokenizer_files(&self) -> impl Iterator<Item = &str> {
        let names = [&self.settings].into_iter().chain(&self.vocabularies);
        names.map(String::as_str)
    }

    /// Those of `folder`; nothing where it holds no such model.
    ///
    /// # Errors
    /// Several models, or settings that cannot be read or that ask for what is not known here.
    pub fn find(folder: &Folder) -> Result<Option<Self>> {
        if !folder.exists() {
            return Ok(None);
        }
        let settings = match folder.contains(SETTINGS) {
            true => SETTINGS.to_string(),
            false => {
                let mut names = folder.names()?;
                names.retain(|name| name.ends_with(SETTINGS_BESIDE));
                match names.as_slice() {
                    [] => return Ok(None),
                    [name] => name.clone(),
                    _ => {
                        return Err(Error::model("the folder holds several models of Marian's")
                            .at(folder.path().display().to_string())
                            .expected(format!("one `*{SETTINGS_BESIDE}`, or `{SETTINGS}`"))
                            .found(names.join(", "))
                            .hint(format!("copy the one that you mean to `{SETTINGS}`")));
                    }
                }
            }
        };
        let path = folder.path_of(&settings);
        let value = read_settings(folder, &settings)?;
        let error = |key: &str| {
            Error::model("the settings of Marian's decoder cannot be used")
                .at(format!("{}: {key}", path.display()))
        };
        let names = |key: &str| -> Vec<String> {
            let items = value[key].as_array().into_iter().flatten();
            // Marian writes whole paths; the files are looked for in this folder.
            let name = |path: &str| path.rsplit(['/', '\\']).next().map(str::to_string);
            items.filter_map(|item| name(item.as_str()?)).collect()
        };
        let models = names("models");
        let [weights] = models.as_slice() else {
            return Err(error("models")
                .expected("one model, an `.npz`")
                .found(match models.len() {
                    0 => "none".to_string(),
                    count => format!("an ensemble of {count}"),
                })
                .hint("leave one of them in the list"));
        };
        let vocabularies = names("vocabs");
        let [source, target] = vocabularies.as_slice() else {
            return Err(error("vocabs")
                .expected("two vocabularies, the source's and the target's")
                .found(vocabularies.len().to_string()));
        };
        // (A `shortlist` makes decoding faster and nothing else: all words are looked at here.)
        for key in ["word-penalty", "output-sampling"] {
            let set = &value[key];
            let is_off = match set {
                Value::Null | Value::Bool(false) => true,
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            if !is_off {
                return Err(error(key).expected("none").found(set.to_string()));
            }
        }
        let number = |key: &str, absent: f64| match &value[key] {
            Value::Null => Ok(absent),
            Value::Bool(on) => Ok(f64::from(u8::from(*on))),
            set => set
                .as_f64()
                .ok_or_else(|| error(key).expected("a number").found(set.to_string())),
        };
        let beam_size = number("beam-size", 12.0)?;
        if beam_size.fract() != 0.0 || !(1.0..=1024.0).contains(&beam_size) {
            return Err(error("beam-size")
                .expected("1 to 1024")
                .found(beam_size.to_string()));
        }
        Ok(Some(MarianFiles {
            settings,
            weights: weights.clone(),
            vocabularies: [source.clone(), target.clone()],
            beam_size: beam_size as usize,
            normalize: number("normalize", 0.0)? as f32,
        }))
    }
}

fn read_settings(folder: &Folder, name: &str) -> Result<Value> {
    let damaged = |(expected, found): (String, String)| {
        Error::model("the settings of Marian's decoder cannot be read")
            .at(folder.path_of(name).display().to_string())
            .expected(expected)
            .found(found)
    };
    let bytes = folder.read(name, MAX_BYTES)?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|e| damaged(("UTF-8".into(), e.to_string())))?;
    read_yaml(text).map_err(damaged)
}
