//! `hexapla`: our own family, for combinations that no other family can say.
//!
//! `config.json` is the [`TransformerConfig`] with `"model_type": "hexapla"` and a `format_version`; tensors bear our names in our layout
//! (a linear layer's weight is `[in, out]`). Only this program opens such a folder.

use serde_json::{Map, Value};

use super::generation::SpecialIds;
use super::keys::Keys;
use super::names::TensorNames;
use crate::config::TransformerConfig;
use crate::error::{Error, Result};
use crate::weights::Parameter;

/// The newest form of `config.json` that this program knows. The first one did not write its number.
const FORMAT_VERSION: usize = 1;

/// What a folder means that lacks a key: settings that change nothing that a finished model computes, and, once there are some,
/// those that a later version added. All else is required: a model whose settings are damaged is not guessed at.
fn absent(key: &str) -> Option<Value> {
    match key {
        "dropout" | "attention_dropout" | "activation_dropout" => Some(Value::from(0.0)),
        "embedding_norm" => Some(Value::from(false)),
        _ => None,
    }
}

/// Reads `config.json`, whose generation settings are taken already.
pub(super) fn read(mut keys: Keys, ids: SpecialIds) -> Result<TransformerConfig> {
    let version = keys.size("format_version")?.unwrap_or(1);
    if version > FORMAT_VERSION {
        return Err(keys
            .error("format_version")
            .expected(format!("at most {FORMAT_VERSION}"))
            .found(version.to_string())
            .hint("a newer hexapla wrote this folder: use that one, or a later one"));
    }
    let mut map = Map::new();
    let every_key = TransformerConfig {
        embedding_norm: true,
        ..TransformerConfig::preset("base")?
    };
    for (key, plain) in write(&every_key)? {
        // A null is a value here: an id that is not set.
        let value = match key.as_str() {
            "eos_token_id" => ids.eos.map(Value::from),
            "decoder_start_token_id" => ids.decoder_start.map(Value::from),
            "forced_bos_token_id" => Some(Value::from(ids.forced_bos)),
            _ => keys.take(&key),
        };
        if key == "model_type" || key == "format_version" {
            continue;
        }
        let missing = || {
            keys.error(&key)
                .expected(format!("a value, such as {plain}"))
                .found("none")
        };
        let value = value.or_else(|| absent(&key));
        map.insert(key.clone(), value.ok_or_else(missing)?);
    }
    // Parsed from a text so that an error names the value, not only its type.
    let config = serde_json::from_value(Value::Object(map));
    let names = keys.error("model_type: hexapla");
    keys.finish()?;
    config.map_err(|e| names.found(e.to_string()))
}

/// `config.json`.
pub(super) fn write(config: &TransformerConfig) -> Result<Map<String, Value>> {
    let failed = |e: serde_json::Error| {
        Error::internal("the configuration cannot be written").found(e.to_string())
    };
    // Through a text: f32 numbers stay as short as people wrote them.
    let text = serde_json::to_string(config).map_err(failed)?;
    let mut map: Map<String, Value> = serde_json::from_str(&text).map_err(failed)?;
    map.insert("model_type".into(), "hexapla".into());
    map.insert("format_version".into(), FORMAT_VERSION.into());
    Ok(map)
}

/// Every parameter stands under its own name.
pub(super) fn names(parameter: &Parameter) -> TensorNames {
    TensorNames {
        read: vec![parameter.name.clone()],
        write: vec![parameter.name.clone()],
        shape: parameter.shape.clone(),
        transposed: false,
        part: None,
        interleaved: None,
    }
}
