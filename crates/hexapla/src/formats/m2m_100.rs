//! `m2m_100`: the pre-norm encoder-decoder of M2M-100 and NLLB.
//!
//! As transformers computes it:
//! - x = `E[token]`·√d_model (with `scale_embedding`) + position. In a vector of width d the entries k < d/2 are
//!   sin(pos·f_k) and the entries d/2 + k are the cosines, f_k = exp(−k·ln 10000 / (d/2 − 1)), all in f32.
//! - Positions count from `pad_token_id` + 1 (2 with the usual padding token 1). The padding token does not count, and
//!   gets the row `pad_token_id` of the table, which is zero. A decoder that starts with the padding token therefore
//!   has another first position, and another second one with a cache than without; such a folder is refused.
//! - Pre-norm, a norm after each stack, eps 1e-5 (not a setting); keys, queries, values and outputs have biases.
//! - logits = h·Eᵀ without a bias. With `tie_word_embeddings` false the output layer has a table of its own.
//! - `gelu` is exact (error function); `swish` and `silu` are one.
//! - The target language is the first token of the output, forced by `forced_bos_token_id`.

use serde_json::{Map, Value, json};

use super::bart::{self, Defaults};
use super::generation::SpecialIds;
use super::keys::Keys;
use super::safetensors::TensorStore;
use crate::config::{Activation, Norm, Positions, TransformerConfig};
use crate::error::Result;

const CLASS: &str = "M2M100ForConditionalGeneration";
const DEFAULTS: Defaults = Defaults {
    vocab_size: 128_112,
    activation: Activation::Relu,
    attention_dropout: 0.1,
    scale_embedding: true,
    pad_token_id: 1,
    eos_token_id: 2,
    decoder_start_token_id: 2,
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
        keys.only(key, &[json!(true)]);
    }
    config.norm = Norm::Pre;
    config.embedding_norm = false;
    config.final_norm = true;
    config.positions = Positions::SinusoidalHalvesFairseq;
    config.position_offset = config.pad_token_id as usize + 1;
    config.eos_token_id = ids.eos.unwrap_or(DEFAULTS.eos_token_id);
    config.decoder_start_token_id = ids.decoder_start.unwrap_or(DEFAULTS.decoder_start_token_id);
    config.forced_bos_token_id = ids.forced_bos;
    if config.decoder_start_token_id == config.pad_token_id {
        return Err(keys
            .error("decoder_start_token_id")
            .expected("another token than `pad_token_id`")
            .found(config.pad_token_id.to_string()));
    }
    config.output_bias = false;
    config.tie_output = keys.flag("tie_word_embeddings")?.unwrap_or(true);
    keys.finish()?;
    config.share_embeddings = config.tie_output
        || bart::sides_agree(tensors, &[config.source_vocab_size, config.d_model])?;
    Ok(config)
}

/// `config.json`.
pub(super) fn write(config: &TransformerConfig) -> Map<String, Value> {
    bart::write_sizes(config, "m2m_100", CLASS)
}

/// Why this family cannot say a configuration; nothing where it can.
pub(super) fn cannot_say(config: &TransformerConfig) -> Option<&'static str> {
    let first = config.pad_token_id as usize + 1;
    [
        (
            config.embedding_norm,
            "m2m_100 has no norm of the embeddings",
        ),
        (config.norm != Norm::Pre, "m2m_100 is pre-norm"),
        (!config.final_norm, "m2m_100 has a norm after each stack"),
        (
            config.positions != Positions::SinusoidalHalvesFairseq,
            "m2m_100's positions are fairseq's sinusoidal halves",
        ),
        (
            config.position_offset != first,
            "m2m_100's positions begin at pad_token_id + 1",
        ),
        (
            config.layer_norm_eps != bart::LAYER_NORM_EPS,
            "m2m_100's layer_norm_eps is 1e-5",
        ),
        (config.output_bias, "m2m_100's output layer has no bias"),
        (
            !config.share_embeddings,
            "m2m_100 has one embedding table for both sides",
        ),
        (
            config.decoder_start_token_id == config.pad_token_id,
            "m2m_100's decoder cannot start with the padding token",
        ),
    ]
    .into_iter()
    .find_map(|(wrong, why)| wrong.then_some(why))
}
