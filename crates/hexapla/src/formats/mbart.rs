//! `bart` and `mbart`: encoder-decoders with trained positions and a norm of the embeddings.
//!
//! As transformers computes it:
//! - x = norm(`E[token]`·√d_model (with `scale_embedding`) + `P[position + 2]`); padding counts like any token.
//! - `bart` is post-norm and has no norm after the stacks, `mbart` is pre-norm and has one; eps 1e-5 (not a setting).
//! - logits = h·Eᵀ + `final_logits_bias`; the bias is zero where the file lacks it.
//! - Language tokens of `mbart` stand behind a text (25 languages) or before it (50); its tokenizer says which.

use serde_json::{Map, Value, json};

use super::bart::{self, Defaults};
use super::generation::SpecialIds;
use super::keys::Keys;
use super::safetensors::TensorStore;
use crate::config::{Activation, Norm, Positions, TransformerConfig};
use crate::error::Result;

/// What tells the two apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    model_type: &'static str,
    class: &'static str,
    norm: Norm,
}

pub(super) const BART: Kind = Kind {
    model_type: "bart",
    class: "BartForConditionalGeneration",
    norm: Norm::Post,
};

pub(super) const MBART: Kind = Kind {
    model_type: "mbart",
    class: "MBartForConditionalGeneration",
    norm: Norm::Pre,
};

/// The first rows of the table of positions have no use.
const POSITION_OFFSET: usize = 2;

const DEFAULTS: Defaults = Defaults {
    vocab_size: 50265,
    activation: Activation::Gelu,
    attention_dropout: 0.0,
    scale_embedding: false,
    pad_token_id: 1,
    eos_token_id: 2,
    decoder_start_token_id: 2,
    trained_positions: true,
};

impl Kind {
    /// Reads `config.json`, whose generation settings are taken already.
    pub(super) fn read(
        self,
        mut keys: Keys,
        ids: SpecialIds,
        tensors: &TensorStore,
    ) -> Result<TransformerConfig> {
        let mut config = TransformerConfig::preset("base")?;
        bart::read_sizes(&mut keys, &DEFAULTS, &mut config)?;
        bart::require_architecture(&mut keys, &[self.class])?;
        let is_pre = self.norm == Norm::Pre;
        for key in ["normalize_before", "add_final_layer_norm"] {
            keys.only(key, &[json!(is_pre)]);
        }
        config.norm = self.norm;
        config.final_norm = is_pre;
        config.embedding_norm = true;
        config.positions = Positions::Learned;
        config.position_offset = POSITION_OFFSET;
        config.eos_token_id = ids.eos.unwrap_or(DEFAULTS.eos_token_id);
        config.decoder_start_token_id =
            ids.decoder_start.unwrap_or(DEFAULTS.decoder_start_token_id);
        config.forced_bos_token_id = ids.forced_bos;
        config.output_bias = tensors.contains(bart::OUTPUT_BIAS);
        config.tie_output = keys.flag("tie_word_embeddings")?.unwrap_or(true);
        keys.finish()?;
        config.share_embeddings = config.tie_output
            || bart::sides_agree(tensors, &[config.source_vocab_size, config.d_model])?;
        Ok(config)
    }

    /// `config.json`.
    pub(super) fn write(self, config: &TransformerConfig) -> Map<String, Value> {
        bart::write_sizes(config, self.model_type, self.class)
    }

    /// Why this family cannot say a configuration; nothing where it can.
    pub(super) fn cannot_say(self, config: &TransformerConfig) -> Option<&'static str> {
        let is_pre = self.norm == Norm::Pre;
        [
            (
                config.norm != self.norm,
                "bart is post-norm, mbart pre-norm",
            ),
            (
                config.final_norm != is_pre,
                "mbart has a norm after each stack, bart none",
            ),
            (!config.embedding_norm, "they have a norm of the embeddings"),
            (
                config.positions != Positions::Learned || config.position_offset != POSITION_OFFSET,
                "their positions are trained, from 2 on",
            ),
            (
                config.layer_norm_eps != bart::LAYER_NORM_EPS,
                "their layer_norm_eps is 1e-5",
            ),
            (
                !config.share_embeddings,
                "they have one embedding table for both sides",
            ),
        ]
        .into_iter()
        .find_map(|(wrong, why)| wrong.then_some(why))
    }
}
