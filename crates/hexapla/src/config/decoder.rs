//! The shape and the mathematics of a decoder alone: GPT-2, Llama and what descends from them.

use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::norm::{Norm, NormConfig, NormKind};
use super::positions::Positions;
use super::rotary::RotaryConfig;
use super::stack::{
    AttentionConfig, EmbeddingConfig, FeedForwardConfig, HeadConfig, LayerConfig, ModelConfig,
    OutputConfig, StackConfig,
};
use crate::error::{Error, Result};

/// A decoder without an encoder: pre-norm, with a last norm (Radford et al. 2019, "GPT-2"; Touvron et al. 2023, "Llama").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of every token's vector.
    pub d_model: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Columns of each head.
    pub head_width: usize,
    /// Inner width of the feed-forward block.
    pub feed_forward: usize,
    /// Non-linearity of the feed-forward block.
    pub activation: Activation,
    /// Whether the activation multiplies another projection (Shazeer 2020).
    pub gated: bool,
    /// Kind of all norms.
    pub norm: NormKind,
    /// Added to variances, or to the means of squares.
    pub norm_eps: f32,
    /// Whether queries, keys and values have biases.
    pub attention_bias: bool,
    /// Whether the projection of the heads has a bias.
    pub attention_output_bias: bool,
    /// Whether the feed-forward block has biases.
    pub feed_forward_bias: bool,
    /// Whether each head of queries and keys is normed (RMS) before it is turned.
    pub query_key_norm: bool,
    /// Rotary positions; where absent, a table of positions is trained.
    pub rotary: Option<RotaryConfig>,
    /// Layers, from 0, that do not turn queries and keys.
    pub layers_without_positions: Vec<usize>,
    /// How many tokens a token sees, itself included, in the layers of `layers_with_window`.
    pub window: Option<usize>,
    /// Layers, from 0, that see no more than `window`.
    pub layers_with_window: Vec<usize>,
    /// Longest text, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output layer's table is the embedding's.
    pub tie_output: bool,
    /// Dropout on embeddings and on every sublayer's output.
    pub dropout: f32,
    /// Dropout on attention probabilities.
    pub attention_dropout: f32,
    /// Id of the token that begins a text, if there is one.
    pub bos_token_id: Option<u32>,
    /// Ids of the tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// Id of the padding token, which is never written.
    pub pad_token_id: Option<u32>,
}

/// Most numbers in a table: four GiB of them.
const MAX_TABLE_NUMBERS: usize = 1 << 30;

impl DecoderConfig {
    /// The same model, taken apart.
    pub fn model(&self) -> ModelConfig {
        let norm = NormConfig {
            kind: self.norm,
            eps: self.norm_eps,
        };
        let query_key_norm = self.query_key_norm.then_some(NormConfig {
            kind: NormKind::Rms,
            eps: self.norm_eps,
        });
        let layer = |i: usize| LayerConfig {
            self_attention: AttentionConfig {
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_width: self.head_width,
                scale: 1.0 / (self.head_width as f32).sqrt(),
                bias: self.attention_bias,
                output_bias: self.attention_output_bias,
                causal: true,
                window: self.window.filter(|_| self.layers_with_window.contains(&i)),
                query_key_norm,
                rotary: self
                    .rotary
                    .filter(|_| !self.layers_without_positions.contains(&i)),
                dropout: self.attention_dropout,
            },
            cross_attention: None,
            feed_forward: FeedForwardConfig {
                width: self.feed_forward,
                activation: self.activation,
                gated: self.gated,
                bias: self.feed_forward_bias,
                dropout: 0.0,
            },
            norm,
            order: Norm::Pre,
            dropout: self.dropout,
        };
        ModelConfig {
            d_model: self.d_model,
            encoder: None,
            decoder: Some(StackConfig {
                embedding: EmbeddingConfig {
                    table: TABLE,
                    vocab_size: self.vocab_size,
                    width: self.d_model,
                    scale: 1.0,
                    positions: self.rotary.is_none().then_some(Positions::Learned),
                    position_offset: 0,
                    max_positions: self.max_position_embeddings,
                    unplaced_token: None,
                    segments: 0,
                    norm: None,
                    dropout: self.dropout,
                },
                relative_positions: None,
                layers: (0..self.layers).map(layer).collect(),
                norm: Some(norm),
            }),
            head: Some(HeadConfig {
                first_row: false,
                dense: None,
                norm: None,
                output: Some(OutputConfig::Tokens {
                    table: if self.tie_output {
                        TABLE
                    } else {
                        "output.weight"
                    },
                    vocab_size: self.vocab_size,
                    bias: false,
                    scale: 1.0,
                }),
            }),
        }
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// Names the first setting that does not fit, what would, and what it is.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key: &str, expected: String, found: String| {
            Err(
                Error::settings("the model's configuration does not fit together")
                    .at(key)
                    .expected(expected)
                    .found(found)
                    .hint("change this setting, or what it must fit"),
            )
        };
        for (key, value, limit) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("d_model", self.d_model, 1 << 16),
            ("layers", self.layers, 1000),
            ("heads", self.heads, 1 << 12),
            ("kv_heads", self.kv_heads, 1 << 12),
            ("head_width", self.head_width, 1 << 12),
            ("feed_forward", self.feed_forward, 1 << 18),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1 << 24,
            ),
        ] {
            if value == 0 || value > limit {
                return refuse(key, format!("1 to {limit}"), value.to_string());
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a divisor of heads {}", self.heads);
            return refuse("kv_heads", expected, self.kv_heads.to_string());
        }
        let positions = match self.rotary {
            Some(_) => 0,
            None => self.max_position_embeddings,
        };
        for (key, rows, columns) in [
            ("vocab_size", self.vocab_size, self.d_model),
            ("max_position_embeddings", positions, self.d_model),
            ("feed_forward", self.feed_forward, self.d_model),
            ("head_width", self.heads * self.head_width, self.d_model),
        ] {
            if rows.saturating_mul(columns) > MAX_TABLE_NUMBERS {
                let expected = format!("at most {}", MAX_TABLE_NUMBERS / columns);
                return refuse(key, expected, rows.to_string());
            }
        }
        if let Some(rotary) = &self.rotary {
            self.validate_rotary(rotary)?;
        }
        if self.window == Some(0) {
            return refuse("window", "at least 1".into(), "0".into());
        }
        if self.window.is_none() && !self.layers_with_window.is_empty() {
            return refuse("window", "a number of tokens".into(), "none".into());
        }
        for (key, layers) in [
            ("layers_without_positions", &self.layers_without_positions),
            ("layers_with_window", &self.layers_with_window),
        ] {
            if let Some(layer) = layers.iter().find(|layer| **layer >= self.layers) {
                let expected = format!("layers below {}", self.layers);
                return refuse(key, expected, layer.to_string());
            }
        }
        let ids = self.eos_token_ids.iter().map(|id| ("eos_token_ids", *id));
        let ids = ids.chain(self.bos_token_id.map(|id| ("bos_token_id", id)));
        for (key, id) in ids.chain(self.pad_token_id.map(|id| ("pad_token_id", id))) {
            if id as usize >= self.vocab_size {
                let expected = format!("below vocab_size {}", self.vocab_size);
                return refuse(key, expected, id.to_string());
            }
        }
        for (key, p) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
        ] {
            if !(0.0..1.0).contains(&p) {
                return refuse(key, "at least 0 and below 1".into(), p.to_string());
            }
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            let expected = "between 0 and 1".into();
            return refuse("norm_eps", expected, self.norm_eps.to_string());
        }
        Ok(())
    }

    fn validate_rotary(&self, rotary: &RotaryConfig) -> Result<()> {
        let refuse = |expected: String, found: String| {
            Err(
                Error::settings("the model's configuration does not fit together")
                    .at("rotary")
                    .expected(expected)
                    .found(found)
                    .hint("change this setting, or what it must fit"),
            )
        };
        let width = rotary.width;
        if width == 0 || !width.is_multiple_of(2) || width > self.head_width {
            let expected = format!("an even width up to head_width {}", self.head_width);
            return refuse(expected, width.to_string());
        }
        if !(rotary.base.is_finite() && rotary.base > 1.0) {
            return refuse("a base above 1".into(), rotary.base.to_string());
        }
        let frequencies = rotary.frequencies();
        let angles = frequencies.iter().chain([&1.0]);
        let possible = |f: &f64| f.is_finite() && *f >= 0.0 && *f <= 1e6;
        if !(angles.clone().all(possible) && rotary.magnitude().is_finite()) {
            return refuse("finite angles".into(), format!("{:?}", rotary.scaling));
        }
        Ok(())
    }
}

/// The embedding's table.
const TABLE: &str = "embedding.weight";
