//! `mapping.toml`: what a folder of somebody's own encoder-decoder holds. It says the model's settings, the names of its tensors
//! and how texts become ids, where no other file does. `docs/formats.md` describes it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::folder::Folder;
use crate::error::{Error, Result};

const FILE: &str = "mapping.toml";
const MAX_BYTES: u64 = 1 << 20;
/// The newest form of the file that this program knows.
const FORMAT_VERSION: u32 = 1;

/// The content of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingFile {
    /// Form of the file.
    pub format_version: u32,
    /// The file of the weights.
    pub weights: String,
    /// How the weight of a linear layer lies.
    #[serde(default)]
    pub linear: LinearLayout,
    /// Settings, as `config.json` of `hexapla` has them.
    pub model: Map<String, Value>,
    /// Name here → name in the weights; `*` stands for the same text in both. `NAME[1/3]` is the second third of its rows.
    pub tensors: BTreeMap<String, String>,
    /// Tensors of the weights that nothing is computed with.
    #[serde(default)]
    pub ignored: Vec<String>,
    /// How texts become ids.
    pub tokenizer: Option<CharacterTokenizer>,
}

/// How the weight of a linear layer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearLayout {
    /// A row for each output, as in PyTorch.
    #[default]
    OutIn,
    /// A row for each input, as in TensorFlow and JAX.
    InOut,
}

/// Each character is a token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharacterTokenizer {
    /// A JSON object in the folder: an id for each character and for each token that is none.
    pub characters: String,
    /// Stands for characters without an id.
    pub unknown: String,
    /// Tokens before a source text.
    #[serde(default)]
    pub before: Vec<String>,
    /// Tokens behind a source text.
    #[serde(default)]
    pub after: Vec<String>,
    /// A source text is filled up with padding to so many tokens, which the model sees like others.
    pub pad_to: Option<usize>,
}

impl MappingFile {
    /// That of `folder`; nothing where it has none.
    ///
    /// # Errors
    /// It is damaged, has a key that is not known, or is of a later form.
    pub fn find(folder: &Folder) -> Result<Option<Self>> {
        if !folder.contains(FILE) {
            return Ok(None);
        }
        let bytes = folder.read(FILE, MAX_BYTES)?;
        let error = || {
            Error::model("the mapping of the model cannot be used")
                .at(Self::path(folder))
                .hint("docs/formats.md says what it holds")
        };
        let text = std::str::from_utf8(&bytes)
            .map_err(|e| error().expected("UTF-8").found(e.to_string()))?;
        let file: MappingFile = toml::from_str(text).map_err(|e| {
            error()
                .expected("the keys of a mapping")
                .found(e.to_string().trim_end().to_string())
        })?;
        let characters = file.tokenizer.as_ref().map(|table| &table.characters);
        for name in [&file.weights].into_iter().chain(characters) {
            if name.contains(['/', '\\']) || name.starts_with('.') {
                return Err(error()
                    .expected("names of files in this folder")
                    .found(format!("`{name}`")));
            }
        }
        match file.format_version {
            FORMAT_VERSION => Ok(Some(file)),
            other => Err(error()
                .at(format!("{}: format_version", Self::path(folder)))
                .expected(FORMAT_VERSION.to_string())
                .found(other.to_string())),
        }
    }

    /// The file, as errors name it.
    pub fn path(folder: &Folder) -> String {
        folder.path_of(FILE).display().to_string()
    }
}
