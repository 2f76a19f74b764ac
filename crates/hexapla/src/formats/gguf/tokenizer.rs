//! The tokenizer of a GGUF file, as a `tokenizer.json` would say it.

use serde_json::{Map, Value as Json, json};

use super::Settings;
use super::file::Value;
use crate::error::{Error, Result};

/// Kinds of tokens, by their numbers.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The tokenizer.
///
/// # Errors
/// A kind that is not known, or lists that do not fit together.
pub(super) fn json(settings: &Settings) -> Result<Vec<u8>> {
    let key = "tokenizer.ggml.model";
    let model = settings.text(key)?;
    if model != "gpt2" {
        return Err(settings
            .wrong(key, "`gpt2`: byte-level BPE")
            .hint("take the model's safetensors with its tokenizer.json"));
    }
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
