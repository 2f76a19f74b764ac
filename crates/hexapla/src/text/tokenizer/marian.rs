//! The vocabularies of Marian NMT's own files: a SentencePiece model (`.spm`), whose numbers are the ids; a mapping of pieces to
//! ids (`.yml`, `.yaml`, `.json`); or a piece a line. With the latter two a text is cut by `source.spm` and `target.spm` where the
//! folder has them, as OPUS-MT's archives do, and else at its spaces.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::file::MAX_BYTES;
use super::pieces::{self, SOURCE_MODEL, TARGET_MODEL};
use super::{EOS, Tokenizer, UNK};
use crate::error::{Error, Result};
use crate::files::{Folder, MarianFiles, read_yaml};

/// Marian's ids of these, which it gives them in every vocabulary that it makes.
const FIXED: [(&str, u32); 2] = [(EOS, 0), (UNK, 1)];

/// The tokenizers of `files`: the source's, and the target's where that is another.
pub(super) fn open(folder: &Folder, files: &MarianFiles) -> Result<(Tokenizer, Option<Tokenizer>)> {
    let [source, target] = &files.vocabularies;
    let models = folder.contains(SOURCE_MODEL) && folder.contains(TARGET_MODEL);
    let side = |vocabulary: &str, model: &str| {
        side(folder, vocabulary, Some(model).filter(|_| models))
            .map_err(|e| e.within(folder.path_of(vocabulary).display()))
    };
    let first = side(source, SOURCE_MODEL)?;
    if source == target && (source.ends_with(".spm") || !models) {
        return Ok((first, None));
    }
    Ok((first, Some(side(target, TARGET_MODEL)?)))
}

fn side(folder: &Folder, vocabulary: &str, model: Option<&str>) -> Result<Tokenizer> {
    if vocabulary.ends_with(".spm") {
        let model = pieces::read_model(folder, vocabulary)?;
        let ids: HashMap<String, u32> = model.pieces().map(str::to_string).zip(0..).collect();
        check(&ids)?;
        return pieces::marian(model, ids, false);
    }
    let bytes = folder.read(vocabulary, MAX_BYTES)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|e| broken().expected("UTF-8").found(e.to_string()))?;
    let ids = match vocabulary.rsplit('.').next() {
        Some("yml" | "yaml" | "json") => mapping(text)?,
        Some("fsv") => {
            return Err(broken()
                .expected("a plain vocabulary")
                .found("a factored one"));
        }
        _ => text.lines().map(str::to_string).zip(0..).collect(),
    };
    check(&ids)?;
    match model {
        Some(model) => pieces::marian(pieces::read_model(folder, model)?, ids, true),
        None => Tokenizer::from_json(at_spaces(&ids).to_string()),
    }
}

fn broken() -> Error {
    Error::model("the vocabulary cannot be used").hint("copy or download the folder again")
}

fn mapping(text: &str) -> Result<HashMap<String, u32>> {
    let value =
        read_yaml(text).map_err(|(expected, found)| broken().expected(expected).found(found))?;
    let pairs = value.as_object().into_iter().flatten();
    let id = |(piece, id): (&String, &Value)| match id.as_u64().and_then(|id| id.try_into().ok()) {
        Some(id) => Ok((piece.clone(), id)),
        None => Err(broken()
            .at(format!("`{piece}`"))
            .expected("an id")
            .found(id.to_string())),
    };
    pairs.map(id).collect()
}

fn check(ids: &HashMap<String, u32>) -> Result<()> {
    for (token, id) in FIXED {
        if ids.get(token) != Some(&id) {
            let found = ids.get(token);
            return Err(broken()
                .at(format!("`{token}`"))
                .expected(format!("{id}, as Marian numbers it"))
                .found(found.map_or("none".to_string(), u32::to_string)));
        }
    }
    Ok(())
}

/// The `tokenizer.json` of pieces between spaces.
fn at_spaces(ids: &HashMap<String, u32>) -> Value {
    let special = |(token, id): (&str, u32)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    };
    json!({
        "version": "1.0",
        "added_tokens": FIXED.map(special),
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": EOS, "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": EOS, "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": EOS, "type_id": 0}}],
            "special_tokens": {EOS: {"id": EOS, "ids": [0], "tokens": [EOS]}},
        },
        "decoder": null,
        "model": {"type": "WordLevel", "unk_token": UNK, "vocab": ids},
    })
}
