//! `hexapla`: our own family, for combinations that no other family can say.
//!
//! `config.json` is the [`TransformerConfig`], or the [`DecoderConfig`] with `"assembly": "decoder"`, with `"model_type": "hexapla"`
//! and a `format_version`; tensors bear our names in our layout (a linear layer's weight is `[in, out]`). Only this program opens such a folder.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::generation::{GenerationDefaults, SpecialIds};
use super::keys::Keys;
use super::names::TensorNames;
use crate::config::{
    Activation, Assembly, DecoderConfig, ModelTable, NormKind, RelativePositions, TransformerConfig,
};
use crate::error::{Error, Result};
use crate::weights::Parameter;

/// The newest form of `config.json` that this program knows. The first one did not write its number. 2 has decoders alone, and
/// ReLU²; 3 has what T5 is made of in models with both halves.
const FORMAT_VERSION: usize = 3;

/// Of a decoder alone.
const DECODER: &str = "decoder";

/// What a folder means that lacks a key: settings that change nothing that a finished model computes, and, once there are some,
/// those that a later version added. All else is required: a model whose settings are damaged is not guessed at.
fn absent(key: &str) -> Option<Value> {
    match key {
        "dropout" | "attention_dropout" | "activation_dropout" => Some(Value::from(0.0)),
        "embedding_norm" | "gated" | "scale_output" => Some(Value::from(false)),
        "bias" | "scale_attention" => Some(Value::from(true)),
        "norm_kind" => Some(json!(NormKind::default())),
        "relative_positions" => Some(json!(RelativePositions::default())),
        "head_width" => Some(Value::Null),
        _ => None,
    }
}

/// Reads `config.json`, whose generation settings are taken already.
pub(super) fn read(
    mut keys: Keys,
    ids: SpecialIds,
    generation: &GenerationDefaults,
) -> Result<Assembly> {
    let version = keys.size("format_version")?.unwrap_or(1);
    if version > FORMAT_VERSION {
        return Err(keys
            .error("format_version")
            .expected(format!("at most {FORMAT_VERSION}"))
            .found(version.to_string())
            .hint("a newer hexapla wrote this folder: use that one, or a later one"));
    }
    match keys.text("assembly")?.as_deref() {
        // The first form knew no other.
        None => {
            // What it leaves out where it is the usual value is named too.
            let every_key = TransformerConfig {
                embedding_norm: true,
                norm_kind: NormKind::Rms,
                head_width: Some(64),
                gated: true,
                bias: false,
                scale_attention: false,
                relative_positions: RelativePositions {
                    buckets: 64,
                    max_distance: 128,
                },
                scale_output: true,
                ..TransformerConfig::preset("base")?
            };
            let config: TransformerConfig = read_keys(keys, &every_key, |key| match key {
                "eos_token_id" => Some(ids.eos.map(Value::from)),
                "decoder_start_token_id" => Some(ids.decoder_start.map(Value::from)),
                "forced_bos_token_id" => Some(Some(Value::from(ids.forced_bos))),
                _ => None,
            })?;
            Ok(config.into())
        }
        Some(DECODER) => {
            let every_key = ModelTable::default().resolve_decoder()?;
            let more = generation.more_eos_token_ids.iter().copied();
            let ends: Vec<u32> = ids.eos.into_iter().chain(more).collect();
            let config: DecoderConfig = read_keys(keys, &every_key, |key| match key {
                "eos_token_ids" if !ends.is_empty() => Some(Some(json!(ends))),
                _ => None,
            })?;
            Ok(config.into())
        }
        Some(other) => Err(keys
            .error("assembly")
            .expected(format!("`{DECODER}`, or none for a model with both halves"))
            .found(format!("`{other}`"))),
    }
}

/// A configuration with the keys of `every_key`, some of which are `known` from elsewhere.
fn read_keys<T: Serialize + DeserializeOwned>(
    mut keys: Keys,
    every_key: &T,
    known: impl Fn(&str) -> Option<Option<Value>>,
) -> Result<T> {
    let mut map = Map::new();
    for (key, plain) in values(every_key)? {
        // A null is a value here: an id that is not set.
        let null = keys.is_null(&key).then_some(Value::Null);
        let own = keys.take(&key).or(null);
        let value = known(&key).unwrap_or(own);
        let missing = || {
            keys.error(&key)
                .expected(format!("a value, such as {plain}"))
                .found("none")
        };
        let value = value.or_else(|| absent(&key));
        map.insert(key.clone(), value.ok_or_else(missing)?);
    }
    keys.pass_over(&["model_type"]);
    // Parsed from a text so that an error names the value, not only its type.
    let config = serde_json::from_value(Value::Object(map));
    let names = keys.error("model_type: hexapla");
    keys.finish()?;
    config.map_err(|e| names.found(e.to_string()))
}

/// `config.json`.
pub(super) fn write(assembly: &Assembly) -> Result<Map<String, Value>> {
    let mut map = match assembly {
        Assembly::EncoderDecoder(config) => values(config)?,
        Assembly::Decoder(config) => {
            let mut map = values(config)?;
            map.insert("assembly".into(), DECODER.into());
            map
        }
        Assembly::Encoder(_) => return Err(Error::internal("an encoder has a family of its own")),
    };
    let version = match assembly {
        Assembly::EncoderDecoder(config) if config.is_of_t5() => FORMAT_VERSION,
        Assembly::EncoderDecoder(config) if config.activation != Activation::ReluSquared => 1,
        _ => 2,
    };
    map.insert("model_type".into(), "hexapla".into());
    map.insert("format_version".into(), version.into());
    Ok(map)
}

/// A configuration's keys. Through a text: f32 numbers stay as short as people wrote them.
fn values(config: &impl Serialize) -> Result<Map<String, Value>> {
    let text = serde_json::to_string(config);
    text.and_then(|text| serde_json::from_str(&text))
        .map_err(|e| Error::internal("the configuration cannot be written").found(e.to_string()))
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
