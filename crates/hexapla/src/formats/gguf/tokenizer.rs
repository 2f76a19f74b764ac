//! The tokenizer of a GGUF file, as the files of a folder would say it: a `tokenizer.json` for byte-level BPE, SentencePiece's
//! `tokenizer.model` for what came from there.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::Settings;
use super::file::Value;
use crate::error::{Error, Result};
use crate::text::sentencepiece::SentencePiece;

/// Kinds of tokens, by their numbers.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The tokenizer's files.
///
/// # Errors
/// A kind that is not known, or lists that do not fit together.
pub(super) fn files(settings: &Settings) -> Result<BTreeMap<String, Vec<u8>>> {
    let key = "tokenizer.ggml.model";
    let (name, file) = match settings.text(key)? {
        "gpt2" => ("tokenizer.json", json(settings)?),
        "llama" => ("tokenizer.model", sentencepiece(settings)?),
        _ => {
            return Err(settings
                .wrong(key, "`gpt2` (byte-level BPE) or `llama` (SentencePiece)")
                .hint("take the model's safetensors with its tokenizer.json"));
        }
    };
    let config = config(settings)?.to_string().into_bytes();
    Ok([
        (name.to_string(), file),
        ("tokenizer_config.json".into(), config),
    ]
    .into())
}

/// What else is said of the tokens: those by which a chat template calls special ones, and whether one begins each text.
fn config(settings: &Settings) -> Result<Json> {
    let mut config = Map::new();
    if let Some(Value::Texts(tokens)) = settings.metadata.get("tokenizer.ggml.tokens") {
        for name in ["bos", "eos"] {
            let id = settings.id(&format!("tokenizer.ggml.{name}_token_id"))?;
            if let Some(token) = id.and_then(|id| tokens.get(id as usize)) {
                config.insert(format!("{name}_token"), json!(token));
            }
        }
    }
    if let Some(begins) = settings.flag("tokenizer.ggml.add_bos_token")? {
        config.insert("add_bos_token".into(), json!(begins));
    }
    Ok(config.into())
}

/// SentencePiece's BPE: pieces with scores.
fn sentencepiece(settings: &Settings) -> Result<Vec<u8>> {
    let list = |key: &str| settings.metadata.get(&format!("tokenizer.ggml.{key}"));
    let (tokens, scores, kinds) = match (list("tokens"), list("scores"), list("token_type")) {
        (Some(Value::Texts(tokens)), Some(Value::Reals(scores)), Some(Value::Wholes(kinds)))
            if scores.len() == tokens.len() && kinds.len() == tokens.len() =>
        {
            (tokens, scores, kinds)
        }
        _ => {
            let expected = "`tokens`, `scores` and `token_type` of one length";
            return Err(settings.wrong("tokenizer.ggml.tokens", expected));
        }
    };
    let pieces = tokens.iter().zip(scores).zip(kinds);
    let pieces = pieces
        .map(|((token, score), kind)| (token.clone(), *score, i32::try_from(*kind).unwrap_or(0)));
    let space_before = settings.flag("tokenizer.ggml.add_space_prefix")?;
    Ok(SentencePiece::file_of_bpe(
        pieces,
        space_before.unwrap_or(true),
    ))
}

/// Byte-level BPE.
fn json(settings: &Settings) -> Result<Vec<u8>> {
    let texts = |key: &str| match settings.metadata.get(key) {
        Some(Value::Texts(texts)) => Ok(texts.as_slice()),
        _ => Err(settings.wrong(key, "a list of texts")),
    };
    let tokens = texts("tokenizer.ggml.tokens")?;
    let merges = texts("tokenizer.ggml.merges")?;
    let kinds: &[i64] = match settings.metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Wholes(kinds)) if kinds.len() == tokens.len() => kinds,
        None => &[],
        Some(_) => {
            let expected = format!("{} numbers", tokens.len());
            return Err(settings.wrong("tokenizer.ggml.token_type", &expected));
        }
    };
    let mut vocab = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        vocab.insert(token.clone(), json!(id));
    }
    let kind_of = |id: usize| kinds.get(id).copied().unwrap_or(1);
    let added = tokens.iter().enumerate();
    let added = added.filter(|(id, _)| [CONTROL, USER_DEFINED].contains(&kind_of(*id)));
    let added: Vec<Json> = added
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": kind_of(id) == CONTROL})
        })
        .collect();
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let pre = match settings.metadata.get("tokenizer.ggml.pre") {
        None => "default",
        Some(_) => settings.text("tokenizer.ggml.pre")?,
    };
    let mut ignore_merges = false;
    let (normalizer, parts) = match pre {
        "gpt-2" | "default" => (Json::Null, vec![bytes(true)]),
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            (Json::Null, vec![digits, bytes(true)])
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            ignore_merges = true;
            (Json::Null, vec![split(&words("{1,3}")), bytes(false)])
        }
        "qwen2" => (
            json!({"type": "NFC"}),
            vec![split(&words("")), bytes(false)],
        ),
        _ => {
            let known = "one of default, gpt-2, llama-bpe, qwen2, smollm";
            return Err(settings.wrong("tokenizer.ggml.pre", known));
        }
    };
    let processor = match settings.flag("tokenizer.ggml.add_bos_token")? {
        Some(true) => beginning(settings, tokens)?,
        _ => bytes(true),
    };
    let whole = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts},
        "post_processor": processor,
        "decoder": bytes(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
    });
    serde_json::to_vec(&whole)
        .map_err(|e| Error::internal("the tokenizer cannot be written").found(e.to_string()))
}

/// How Llama 3 and Qwen cut texts before BPE; `digits` says how many digits stay together.
fn words(digits: &str) -> String {
    let parts = [
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+",
        &format!("\\p{{N}}{digits}"),
        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*",
        "\\s*[\\r\\n]+",
        "\\s+(?!\\S)",
        "\\s+",
    ];
    parts.join("|")
}

/// Puts the token that begins a text before it.
fn beginning(settings: &Settings, tokens: &[String]) -> Result<Json> {
    let key = "tokenizer.ggml.bos_token_id";
    let id = settings.id(key)?;
    let token = id.and_then(|id| Some((id, tokens.get(id as usize)?)));
    let (id, token) = token.ok_or_else(|| settings.wrong(key, "a token's id"))?;
    let special = json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = |side: &str, number: u32| json!({"Sequence": {"id": side, "type_id": number}});
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [special, text("A", 0)],
        "pair": [special, text("A", 0), special, text("B", 1)],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    }))
}
