//! The `[model]` table.

use serde::{Deserialize, Serialize};

use super::transformer::{Activation, Norm, Positions, TransformerConfig};
use crate::error::Result;

/// The `[model]` table: a preset and what differs from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelTable {
    /// `tiny`, `small`, `base` or `big`; `small` where absent.
    pub preset: Option<String>,
    /// See [`TransformerConfig::d_model`].
    pub d_model: Option<usize>,
    /// Sets both stacks' depth.
    pub layers: Option<usize>,
    /// See [`TransformerConfig::encoder_layers`].
    pub encoder_layers: Option<usize>,
    /// See [`TransformerConfig::decoder_layers`].
    pub decoder_layers: Option<usize>,
    /// Attention heads of both stacks.
    pub heads: Option<usize>,
    /// Inner width of both stacks' feed-forward blocks.
    pub feed_forward: Option<usize>,
    /// See [`TransformerConfig::encoder_feed_forward`].
    pub encoder_feed_forward: Option<usize>,
    /// See [`TransformerConfig::decoder_feed_forward`].
    pub decoder_feed_forward: Option<usize>,
    /// See [`Activation`].
    pub activation: Option<Activation>,
    /// See [`Norm`].
    pub norm: Option<Norm>,
    /// See [`TransformerConfig::final_norm`]; on with `norm = "pre"` where absent.
    pub final_norm: Option<bool>,
    /// See [`Positions`]; where absent, `sinusoidal_halves` with post-norm, `sinusoidal_halves_fairseq` with pre-norm.
    pub positions: Option<Positions>,
    /// See [`TransformerConfig::max_position_embeddings`].
    pub max_position_embeddings: Option<usize>,
    /// See [`TransformerConfig::share_embeddings`].
    pub share_embeddings: Option<bool>,
    /// See [`TransformerConfig::tie_output`].
    pub tie_output: Option<bool>,
    /// See [`TransformerConfig::output_bias`]; off with `norm = "pre"` where absent.
    pub output_bias: Option<bool>,
    /// See [`TransformerConfig::dropout`].
    pub dropout: Option<f32>,
    /// See [`TransformerConfig::attention_dropout`].
    pub attention_dropout: Option<f32>,
    /// See [`TransformerConfig::activation_dropout`].
    pub activation_dropout: Option<f32>,
}

impl ModelTable {
    /// The full configuration, vocabulary and special ids still to be filled in by the tokenizer.
    ///
    /// # Errors
    /// An unknown preset.
    pub fn resolve(&self) -> Result<TransformerConfig> {
        let mut c = TransformerConfig::preset(self.preset.as_deref().unwrap_or("small"))?;
        fn set<T: Clone>(field: &mut T, value: &Option<T>) {
            if let Some(v) = value {
                *field = v.clone();
            }
        }
        set(&mut c.norm, &self.norm);
        if c.norm == Norm::Pre {
            // What M2M-100's layout can express.
            c.final_norm = true;
            c.positions = Positions::SinusoidalHalvesFairseq;
            c.output_bias = false;
        }
        set(&mut c.d_model, &self.d_model);
        set(&mut c.encoder_layers, &self.layers);
        set(&mut c.decoder_layers, &self.layers);
        set(&mut c.encoder_layers, &self.encoder_layers);
        set(&mut c.decoder_layers, &self.decoder_layers);
        set(&mut c.encoder_heads, &self.heads);
        set(&mut c.decoder_heads, &self.heads);
        set(&mut c.encoder_feed_forward, &self.feed_forward);
        set(&mut c.decoder_feed_forward, &self.feed_forward);
        set(&mut c.encoder_feed_forward, &self.encoder_feed_forward);
        set(&mut c.decoder_feed_forward, &self.decoder_feed_forward);
        set(&mut c.activation, &self.activation);
        set(&mut c.final_norm, &self.final_norm);
        set(&mut c.positions, &self.positions);
        set(
            &mut c.max_position_embeddings,
            &self.max_position_embeddings,
        );
        set(&mut c.share_embeddings, &self.share_embeddings);
        set(&mut c.tie_output, &self.tie_output);
        set(&mut c.output_bias, &self.output_bias);
        set(&mut c.dropout, &self.dropout);
        set(&mut c.attention_dropout, &self.attention_dropout);
        set(&mut c.activation_dropout, &self.activation_dropout);
        Ok(c)
    }
}
