//! The `[model]` table.

use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::decoder::DecoderConfig;
use super::norm::{Norm, NormKind};
use super::positions::Positions;
use super::rotary::{RotaryConfig, RotaryScaling};
use super::task::Task;
use super::transformer::TransformerConfig;
use crate::error::{Result, setting};

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
    /// With `task = "language"`: heads of keys and values; as many as `heads` where absent.
    pub kv_heads: Option<usize>,
    /// With `task = "language"`: columns of each head; d_model / heads where absent.
    pub head_width: Option<usize>,
    /// With `task = "language"`: whether the activation multiplies another projection; off where absent.
    pub gated: Option<bool>,
    /// With `task = "language"`: kind of all norms; layer norm where absent.
    pub norm_kind: Option<NormKind>,
    /// With `task = "language"`: whether the linear layers have biases; on where absent.
    pub bias: Option<bool>,
    /// With `task = "language"`: whether each head of queries and keys is normed (RMS); off where absent.
    pub query_key_norm: Option<bool>,
    /// With `task = "language"`: rotary positions in place of a trained table; off where absent.
    pub rotary: Option<bool>,
}

/// The base of rotary positions (Su et al. 2021).
const ROTARY_BASE: f64 = 10_000.0;

impl ModelTable {
    /// The first key that is of another task than `task`.
    pub(super) fn of_another_task(&self, task: Task) -> Option<&'static str> {
        let both_halves = [
            ("encoder_layers", self.encoder_layers.is_some()),
            ("decoder_layers", self.decoder_layers.is_some()),
            ("encoder_feed_forward", self.encoder_feed_forward.is_some()),
            ("decoder_feed_forward", self.decoder_feed_forward.is_some()),
            ("norm", self.norm.is_some()),
            ("final_norm", self.final_norm.is_some()),
            ("positions", self.positions.is_some()),
            ("share_embeddings", self.share_embeddings.is_some()),
            ("output_bias", self.output_bias.is_some()),
            ("activation_dropout", self.activation_dropout.is_some()),
        ];
        let decoder_alone = [
            ("kv_heads", self.kv_heads.is_some()),
            ("head_width", self.head_width.is_some()),
            ("gated", self.gated.is_some()),
            ("norm_kind", self.norm_kind.is_some()),
            ("bias", self.bias.is_some()),
            ("query_key_norm", self.query_key_norm.is_some()),
            ("rotary", self.rotary.is_some()),
        ];
        let others: &[(&str, bool)] = match task {
            Task::Translation => &decoder_alone,
            Task::Language => &both_halves,
        };
        others.iter().find_map(|(key, set)| set.then_some(*key))
    }

    /// The full configuration of a decoder alone, vocabulary and special ids still to be filled in by the tokenizer: GPT-2's
    /// mathematics with the sizes of a preset, the feed-forward block four times as wide as the model, where no key says otherwise.
    ///
    /// # Errors
    /// An unknown preset, or heads that do not divide the width.
    pub fn resolve_decoder(&self) -> Result<DecoderConfig> {
        let preset = TransformerConfig::preset(self.preset.as_deref().unwrap_or("small"))?;
        let d_model = self.d_model.unwrap_or(preset.d_model);
        let heads = self.heads.unwrap_or(preset.decoder_heads);
        if self.head_width.is_none() && (heads == 0 || !d_model.is_multiple_of(heads)) {
            let expected = format!("a divisor of d_model {d_model}, or a `head_width` besides");
            let what = "the model's configuration does not fit together";
            return Err(setting(what, "heads", &expected, heads.to_string()));
        }
        let head_width = self.head_width.unwrap_or_else(|| d_model / heads);
        let bias = self.bias.unwrap_or(true);
        let rotary = self.rotary.unwrap_or(false);
        Ok(DecoderConfig {
            vocab_size: 0,
            d_model,
            layers: self.layers.unwrap_or(preset.decoder_layers),
            heads,
            kv_heads: self.kv_heads.unwrap_or(heads),
            head_width,
            feed_forward: self.feed_forward.unwrap_or(d_model.saturating_mul(4)),
            activation: self.activation.unwrap_or(Activation::GeluTanh),
            gated: self.gated.unwrap_or(false),
            norm: self.norm_kind.unwrap_or(NormKind::Layer),
            norm_eps: 1e-5,
            attention_bias: bias,
            attention_output_bias: bias,
            feed_forward_bias: bias,
            query_key_norm: self.query_key_norm.unwrap_or(false),
            rotary: rotary.then_some(RotaryConfig {
                width: head_width,
                base: ROTARY_BASE,
                scaling: RotaryScaling::None,
            }),
            layers_without_positions: Vec::new(),
            window: None,
            layers_with_window: Vec::new(),
            max_position_embeddings: self.max_position_embeddings.unwrap_or(256),
            tie_output: self.tie_output.unwrap_or(true),
            dropout: self.dropout.unwrap_or(preset.dropout),
            attention_dropout: self.attention_dropout.unwrap_or(0.0),
            bos_token_id: None,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
        })
    }

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
