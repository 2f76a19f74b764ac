//! Reading and writing `tokenizer.json`: nothing in it is trusted.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::library::{TokenizerFile, broken};
use super::{BOS, CONTROL, EOS, Inner, Marker, PAD, Tokenizer, UNK, codes, template};
use crate::error::Result;
use crate::files::{Folder, read_limited};

/// Largest file that is read. The largest vocabularies in use (250,000 pieces) take some 35 MB.
pub(super) const MAX_BYTES: u64 = 512 << 20;
/// Ids stay below this: the largest vocabulary that a model's configuration allows.
const MAX_IDS: u32 = 1 << 24;
/// How many times longer a normalizer or a decoder may make a text: known ones stay below 100.
const MAX_GROWTH: f64 = 65_536.0;

impl Tokenizer {
    /// Reads the `tokenizer.json` at `path`.
    ///
    /// # Errors
    /// The file is missing, too large, not UTF-8, or no valid tokenizer.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = read_limited(path, MAX_BYTES)?;
        Self::from_bytes(&bytes).map_err(|e| e.within(path.display()))
    }

    /// Reads the file `name` of `folder`.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn open_in(folder: &Folder, name: &str) -> Result<Self> {
        let bytes = folder.read(name, MAX_BYTES)?;
        Self::from_bytes(&bytes).map_err(|e| e.within(folder.path_of(name).display()))
    }

    /// Reads a `tokenizer.json` from memory.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(broken()
                .expected(format!("at most {MAX_BYTES} bytes"))
                .found("more"));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|e| broken().expected("UTF-8").found(e.to_string()))?;
        Self::from_json(text.to_string())
    }

    /// Reads a `tokenizer.json` from a text.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn from_json(json: String) -> Result<Self> {
        let mut file = TokenizerFile::read(&json)?;
        check(&file)?;
        let special_names = special_names(&file.parts);
        let template = template::read(&file.parts)?;
        let marker = marker(&file.parts);
        prepare(&mut file.parts);
        let mut inner = file.build()?;
        inner.set_encode_special_tokens(true);
        let largest = file
            .largest_id()
            .into_iter()
            .chain(inner.get_added_tokens_decoder().into_keys())
            .max()
            .ok_or_else(|| {
                broken()
                    .at("model.vocab")
                    .expected("at least one token")
                    .found("none")
            })?;
        if largest >= MAX_IDS {
            return Err(broken()
                .at("model.vocab")
                .expected(format!("ids below {MAX_IDS}"))
                .found(largest.to_string()));
        }
        let first = |names: &[&str]| names.iter().find_map(|name| inner.token_to_id(name));
        Ok(Tokenizer {
            marker,
            vocab_size: largest as usize + 1,
            bos: first(&[BOS, "<bos>", "[CLS]", "<|endoftext|>"]),
            pad: first(&[PAD, "[PAD]"]),
            eos: first(&[EOS, "<eos>", "[SEP]", "<|endoftext|>"]),
            unk: first(&[UNK, "[UNK]"]),
            special: special_names
                .iter()
                .filter_map(|name| inner.token_to_id(name))
                .collect(),
            template,
            notes: Vec::new(),
            inner: Inner::Library(Box::new(inner)),
            json,
        })
    }
}

/// Refuses what the `tokenizers` crate would accept and then panic on.
pub(super) fn check(file: &TokenizerFile) -> Result<()> {
    let value = &file.parts;
    let prefix = value["model"]["continuing_subword_prefix"].as_str();
    for (number, merge) in file.merges_with_prefix.iter().enumerate() {
        let right = merge[1]
            .as_str()
            .or_else(|| merge.as_str()?.split(' ').nth(1));
        let prefix = prefix.unwrap_or_default();
        if !right.is_some_and(|right| right.starts_with(prefix)) {
            return Err(broken()
                .at(format!("model.merges[{number}]"))
                .expected(format!("a right side that starts with `{prefix}`"))
                .found(merge.to_string()));
        }
    }
    for section in ["normalizer", "decoder", "pre_tokenizer"] {
        check_parts(section, &value[section])?;
        let growth = growth(&value[section]);
        if growth > MAX_GROWTH {
            return Err(broken()
                .at(section)
                .expected(format!(
                    "parts that make a text at most {MAX_GROWTH} times longer"
                ))
                .found(format!("{growth:.0} times")));
        }
    }
    Ok(())
}

/// How many times longer a part, and those inside it, can make a text, as far as can be told: each takes what the one before
/// it made.
fn growth(part: &Value) -> f64 {
    let bytes = |text: &Value| text.as_str().map_or(0.0, |text| text.len() as f64);
    let pattern = &part["pattern"];
    let own = match part["type"].as_str() {
        // A regular expression matches a byte at least.
        Some("Replace") => bytes(&part["content"]) / bytes(&pattern["String"]).max(1.0),
        Some("Prepend") => bytes(&part["prepend"]) + 1.0,
        _ => 1.0,
    }
    .max(1.0);
    let lists = ["normalizers", "decoders", "pretokenizers"];
    let inner = lists.iter().flat_map(|list| part[list].as_array());
    inner.flatten().map(growth).product::<f64>() * own
}

/// Checks one part and those inside it. The depth is bounded by the JSON parser's.
fn check_parts(section: &str, part: &Value) -> Result<()> {
    let refuse = |key: &str, expected: &str| {
        Err(broken()
            .at(format!("{section}.{key}"))
            .expected(expected)
            .found(part[key].to_string().chars().take(60).collect::<String>()))
    };
    match (section, part["type"].as_str()) {
        ("decoder", Some("Strip")) if part["stop"].as_u64() != Some(0) => {
            return refuse("stop", "0");
        }
        ("pre_tokenizer", Some("FixedLength")) if part["length"].as_u64() == Some(0) => {
            return refuse("length", "at least 1");
        }
        ("normalizer", Some("Precompiled")) if !is_character_map(part) => {
            return refuse(
                "precompiled_charsmap",
                "a SentencePiece character map in Base64",
            );
        }
        _ => {}
    }
    for list in ["normalizers", "decoders", "pretokenizers"] {
        for inner in part[list].as_array().into_iter().flatten() {
            check_parts(section, inner)?;
        }
    }
    Ok(())
}

/// Whether the crate can read a SentencePiece character map, and would not ask for more memory than the map is long: its first
/// four bytes give the length of a table.
fn is_character_map(part: &Value) -> bool {
    let Some(map) = part["precompiled_charsmap"].as_str() else {
        return false;
    };
    let mut bits = 0u64;
    for c in map.bytes().take(6) {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return false,
        };
        bits = bits << 6 | u64::from(digit);
    }
    // 36 bits, of which the first 32 are the number, little-endian.
    let table = ((bits >> 4) as u32).swap_bytes();
    (4..map.len() as u64).contains(&u64::from(table))
        && serde_json::from_str::<tokenizers::normalizers::Precompiled>(&part.to_string()).is_ok()
}

/// Names of the tokens that are no text.
fn special_names(value: &Value) -> HashSet<String> {
    let added = value["added_tokens"].as_array().into_iter().flatten();
    added
        .filter(|token| token["special"].as_bool() == Some(true))
        .filter_map(|token| token["content"].as_str())
        .map(str::to_string)
        .collect()
}

/// Changes what must not act while encoding.
///
/// Truncation would cut text silently, padding is never computed on, and dropout would make encoding random. A special token
/// other than the control tokens is found in text (the crate finds only those not called special when it is told to leave
/// special ones as text).
fn prepare(value: &mut Value) {
    prepare_settings(value);
    let added = value.get_mut("added_tokens").and_then(Value::as_array_mut);
    for token in added.into_iter().flatten() {
        let is_control = token["content"]
            .as_str()
            .is_some_and(|name| CONTROL.contains(&name));
        if !is_control && token["special"].as_bool() == Some(true) {
            token["special"] = Value::Bool(false);
        }
    }
}

/// Switches truncation, padding and dropout off.
pub(super) fn prepare_settings(value: &mut Value) {
    value["truncation"] = Value::Null;
    value["padding"] = Value::Null;
    value["model"]["dropout"] = Value::Null;
}

fn marker(value: &Value) -> Marker {
    let has_part = |part: &Value, kind: &str| {
        let inner = part["decoders"].as_array().into_iter().flatten();
        std::iter::once(part)
            .chain(inner)
            .any(|p| p["type"].as_str() == Some(kind))
    };
    let decoder = &value["decoder"];
    if value["model"]["end_of_word_suffix"].as_str() == Some(codes::END_OF_WORD) {
        Marker::Suffix
    } else if value["model"]["type"].as_str() == Some("WordLevel") {
        Marker::Joiner
    } else if has_part(decoder, "ByteLevel") {
        Marker::Bytes
    } else {
        Marker::Own
    }
}
