//! `marian`: the post-norm encoder-decoder of Marian NMT and of the OPUS-MT models.
//!
//! As transformers computes it:
//! - x = `E[token]`·√d_model (with `scale_embedding`) + position. Positions count from 0, padding or not; in a vector of
//!   width d the entries k < d/2 are sin(pos / 10000^(2k/d)) and the entries d/2 + k are the cosines. The table is
//!   computed, whatever the file holds.
//! - Post-norm, no norm after the stacks, eps 1e-5 (not a setting); keys, queries, values and outputs have biases.
//! - logits = h·Eᵀ + `final_logits_bias`; the bias is zero where the file lacks it. The output layer has no other bias.
//! - `gelu` is exact (error function); `swish` and `silu` are one.
//! - The decoder starts with `decoder_start_token_id`, usually the padding token, whose embedding is used as it is.
//! - Old folders lack `decoder_vocab_size` (then `vocab_size`) and `share_encoder_decoder_embeddings` (then true). With
//!   shared embeddings `decoder_vocab_size` has no meaning, and another value is refused.

use serde_json::{Map, Value, json};

use super::bart::{self, Defaults};
use super::generation::SpecialIds;
use super::keys::Keys;
use super::safetensors::TensorStore;
use crate::config::{Activation, Norm, Positions, TransformerConfig};
use crate::error::Result;

const CLASS: &str = "MarianMTModel";
const DEFAULTS: Defaults = Defaults {
    vocab_size: 58101,
    activation: Activation::Gelu,
    attention_dropout: 0.0,
    scale_embedding: false,
    pad_token_id: 58100,
    eos_token_id: 0,
    decoder_start_token_id: 58100,
    trained_positions: false,
};

/// Reads `config.json`, whose generation settings are taken already.
pub(super) fn read(
    mut keys: Keys,
    ids: SpecialIds,
    tensors: &TensorStore,
) -> Result<TransformerConfig> {
    let mut config = TransformerConfig::preset("base")?;
    bart::read_sizes(&mut keys, &DEFAULTS, &mut config)?;
    bart::require_architecture(&mut keys, &[CLASS])?;
    for key in ["normalize_before", "add_final_layer_norm"] {
        keys.only(key, &[json!(false)]);
    }
    config.norm = Norm::Post;
    config.embedding_norm = false;
    config.final_norm = false;
    config.positions = Positions::SinusoidalHalves;
    config.position_offset = 0;
    config.eos_token_id = ids.eos.unwrap_or(DEFAULTS.eos_token_id);
    config.decoder_start_token_id = ids.decoder_start.unwrap_or(DEFAULTS.decoder_start_token_id);
    config.forced_bos_token_id = ids.forced_bos;
    config.output_bias = tensors.contains(bart::OUTPUT_BIAS);
    config.tie_output = keys.flag("tie_word_embeddings")?.unwrap_or(true);

    let share = keys
        .flag("share_encoder_decoder_embeddings")?
        .unwrap_or(true);
    if let Some(size) = keys.size("decoder_vocab_size")? {
        if share && size != config.source_vocab_size {
            return Err(keys
                .error("decoder_vocab_size")
                .expected(format!(
                    "{}, as `vocab_size` says, for the embeddings are shared",
                    config.source_vocab_size
                ))
                .found(size.to_string()));
        }
        config.target_vocab_size = size;
    }
    keys.finish()?;
    config.share_embeddings = share
        && (config.tie_output
            || bart::sides_agree(tensors, &[config.source_vocab_size, config.d_model])?);
    Ok(config)
}

/// `config.json`.
pub(super) fn write(config: &TransformerConfig) -> Map<String, Value> {
    let mut map = bart::write_sizes(config, "marian", CLASS);
    for (key, value) in [
        ("decoder_vocab_size", json!(config.target_vocab_size)),
        (
            "share_encoder_decoder_embeddings",
            json!(config.share_embeddings),
        ),
        ("normalize_before", json!(false)),
        ("normalize_embedding", json!(false)),
        ("add_final_layer_norm", json!(false)),
        ("static_position_embeddings", json!(true)),
        // The class would otherwise force token 0 at the end where an old version reads this file alone.
        ("forced_eos_token_id", Value::Null),
    ] {
        map.insert(key.to_string(), value);
    }
    map
}

/// Why this family cannot say a configuration; nothing where it can.
pub(super) fn cannot_say(config: &TransformerConfig) -> Option<&'static str> {
    [
        (
            config.embedding_norm,
            "marian has no norm of the embeddings",
        ),
        (config.norm != Norm::Post, "marian is post-norm"),
        (config.final_norm, "marian has no norm after the stacks"),
        (
            config.positions != Positions::SinusoidalHalves,
            "marian's positions are sinusoidal halves",
        ),
        (config.position_offset != 0, "marian's positions begin at 0"),
        (
            config.layer_norm_eps != bart::LAYER_NORM_EPS,
            "marian's layer_norm_eps is 1e-5",
        ),
    ]
    .into_iter()
    .find_map(|(wrong, why)| wrong.then_some(why))
}
