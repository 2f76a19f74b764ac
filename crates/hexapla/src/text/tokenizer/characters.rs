//! Tokenizers whose tokens are characters, as `mapping.toml` describes them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Marker, Tokenizer};
use crate::error::{Error, Result};
use crate::files::{CharacterTokenizer, Folder, MappingFile};

const MAX_BYTES: u64 = 16 << 20;
/// Longest text that is filled up with padding.
const MAX_PADDED: usize = 1 << 16;

/// Reads the characters that `table` of `folder` names.
pub(super) fn open(folder: &Folder, table: &CharacterTokenizer) -> Result<Tokenizer> {
    let error = |key: &str| {
        Error::model("the tokenizer cannot be used")
            .at(format!("{}: tokenizer.{key}", MappingFile::path(folder)))
            .hint("docs/formats.md says what a mapping holds")
    };
    let bytes = folder.read(&table.characters, MAX_BYTES)?;
    let ids: BTreeMap<String, u32> = serde_json::from_slice(&bytes).map_err(|e| {
        error("characters")
            .expected("a JSON object: an id for each token")
            .found(format!("{}: {e}", table.characters))
    })?;
    let known = |key: &str, token: &String| {
        ids.get(token).copied().ok_or_else(|| {
            error(key)
                .expected(format!("tokens of {}", table.characters))
                .found(format!("`{token}`"))
        })
    };
    known("unknown", &table.unknown)?;
    let all = |key: &'static str, tokens: &[String]| {
        let ids = tokens.iter().map(|token| known(key, token));
        ids.collect::<Result<Vec<u32>>>()
    };
    let (before, after) = (all("before", &table.before)?, all("after", &table.after)?);
    let json = tokenizer_json(&ids, &table.unknown).to_string();
    let mut tokenizer = Tokenizer::from_json(json)?;
    tokenizer.marker = Marker::Own;
    tokenizer.template.before = before;
    tokenizer.template.after = after;
    tokenizer.template.padding = match table.pad_to {
        None => None,
        Some(length) if (1..=MAX_PADDED).contains(&length) => {
            let pad = tokenizer
                .pad
                .ok_or_else(|| error("pad_to").expected("the token `<pad>`").found("none"))?;
            Some((length, pad))
        }
        Some(length) => {
            return Err(error("pad_to")
                .expected(format!("1 to {MAX_PADDED}"))
                .found(length.to_string()));
        }
    };
    Ok(tokenizer)
}

/// Tokens of one character are text, all others stand for something else.
fn tokenizer_json(ids: &BTreeMap<String, u32>, unknown: &str) -> Value {
    let special = ids
        .iter()
        .filter(|(token, _)| token.chars().nth(1).is_some());
    let special = special.map(|(token, id)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    });
    json!({
        "version": "1.0",
        "added_tokens": special.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?s:.)"}, "behavior": "Isolated", "invert": false},
        "post_processor": null,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "unk_token": unknown, "vocab": ids},
    })
}
