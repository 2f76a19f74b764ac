//! The shape and the mathematics of a model.

use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::norm::{Norm, NormConfig, NormKind};
use super::positions::{Positions, RelativePositions};
use super::stack::{
    AttentionConfig, EmbeddingConfig, FeedForwardConfig, HeadConfig, LayerConfig, ModelConfig,
    OutputConfig, StackConfig,
};
use crate::error::{Error, Result, unknown_name};

/// The shape and the mathematics of one Transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// Rows of the source embedding.
    pub source_vocab_size: usize,
    /// Rows of the target embedding and of the output.
    pub target_vocab_size: usize,
    /// Width of every token's vector.
    pub d_model: usize,
    /// Number of encoder layers.
    pub encoder_layers: usize,
    /// Number of decoder layers.
    pub decoder_layers: usize,
    /// Attention heads of an encoder layer; divides `d_model`.
    pub encoder_heads: usize,
    /// Attention heads of a decoder layer; divides `d_model`.
    pub decoder_heads: usize,
    /// Inner width of an encoder layer's feed-forward block.
    pub encoder_feed_forward: usize,
    /// Inner width of a decoder layer's feed-forward block.
    pub decoder_feed_forward: usize,
    /// Non-linearity of the feed-forward blocks.
    pub activation: Activation,
    /// Post-norm or pre-norm.
    pub norm: Norm,
    /// A last layer norm after each stack.
    pub final_norm: bool,
    /// A layer norm of the embeddings, before the first layer (BART).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub embedding_norm: bool,
    /// Added to the variance in layer norm.
    pub layer_norm_eps: f32,
    /// Kind of all norms.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm_kind: NormKind,
    /// Columns of each head; `d_model` / heads where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Whether the activation multiplies another projection (Shazeer 2020).
    #[serde(default, skip_serializing_if = "is_default")]
    pub gated: bool,
    /// The linear layers of attention and of the feed-forward blocks have biases.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// Products of queries and keys are multiplied by 1/√head width.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub scale_attention: bool,
    /// Kind of positions.
    pub positions: Positions,
    /// Of `positions: relative`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relative_positions: RelativePositions,
    /// Number of the first position (0 for Marian, 2 for M2M-100).
    pub position_offset: usize,
    /// Longest sentence, in tokens.
    pub max_position_embeddings: usize,
    /// Multiply embeddings by √d_model.
    pub scale_embedding: bool,
    /// Source and target use one embedding table.
    pub share_embeddings: bool,
    /// The output layer uses the target embedding table.
    pub tie_output: bool,
    /// The output layer has a bias.
    pub output_bias: bool,
    /// Logits are multiplied by 1/√d_model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale_output: bool,
    /// Dropout on embeddings and on every sublayer's output.
    pub dropout: f32,
    /// Dropout on attention probabilities.
    pub attention_dropout: f32,
    /// Dropout inside the feed-forward block.
    pub activation_dropout: f32,
    /// Id of the padding token. Never computed on, never generated.
    pub pad_token_id: u32,
    /// Id that ends a sentence.
    pub eos_token_id: u32,
    /// Id that starts the decoder.
    pub decoder_start_token_id: u32,
    /// First id the decoder must produce, if any (the target language of M2M-100).
    pub forced_bos_token_id: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// Most numbers in a table of positions: one GiB of them.
const MAX_POSITION_NUMBERS: usize = 1 << 28;

impl TransformerConfig {
    /// Names of the presets.
    pub const PRESETS: [&'static str; 4] = ["tiny", "small", "base", "big"];

    /// `tiny`, `small`, `base` (the paper's) or `big`, with vocabularies of size 0 that the tokenizer fills in.
    ///
    /// # Errors
    /// An unknown name is refused with the nearest known one.
    pub fn preset(name: &str) -> Result<Self> {
        let (layers, d_model, feed_forward, heads) = match name {
            "tiny" => (4, 128, 256, 4),
            "small" => (3, 256, 1024, 4),
            "base" => (6, 512, 2048, 8),
            "big" => (6, 1024, 4096, 16),
            _ => return Err(unknown_name("preset", name, &Self::PRESETS).at("preset")),
        };
        Ok(TransformerConfig {
            source_vocab_size: 0,
            target_vocab_size: 0,
            d_model,
            encoder_layers: layers,
            decoder_layers: layers,
            encoder_heads: heads,
            decoder_heads: heads,
            encoder_feed_forward: feed_forward,
            decoder_feed_forward: feed_forward,
            activation: Activation::Relu,
            norm: Norm::Post,
            final_norm: false,
            embedding_norm: false,
            layer_norm_eps: 1e-5,
            norm_kind: NormKind::Layer,
            head_width: None,
            gated: false,
            bias: true,
            scale_attention: true,
            positions: Positions::SinusoidalHalves,
            relative_positions: RelativePositions::default(),
            position_offset: 0,
            max_position_embeddings: 512,
            scale_embedding: true,
            share_embeddings: true,
            tie_output: true,
            output_bias: true,
            scale_output: false,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            pad_token_id: 0,
            eos_token_id: 0,
            decoder_start_token_id: 0,
            forced_bos_token_id: None,
        })
    }

    /// The same model, taken apart: the paper's encoder and decoder.
    pub fn model(&self) -> ModelConfig {
        let [source_table, target_table] = match self.share_embeddings {
            true => ["embedding.weight"; 2],
            false => ["source_embedding.weight", "target_embedding.weight"],
        };
        let norm = NormConfig {
            kind: self.norm_kind,
            eps: self.layer_norm_eps,
        };
        let relative = self.positions == Positions::Relative;
        let fairseq = self.positions == Positions::SinusoidalHalvesFairseq;
        let unplaced = fairseq && (self.pad_token_id as usize) < self.position_offset;
        let embedding = |table, vocab_size| EmbeddingConfig {
            table,
            vocab_size,
            width: self.d_model,
            scale: match self.scale_embedding {
                true => (self.d_model as f32).sqrt(),
                false => 1.0,
            },
            positions: (!relative).then_some(self.positions),
            position_offset: self.position_offset,
            max_positions: self.max_position_embeddings,
            unplaced_token: unplaced.then_some(self.pad_token_id),
            segments: 0,
            norm: self.embedding_norm.then_some(norm),
            dropout: self.dropout,
        };
        let attention = |heads: usize, causal| {
            let head_width = self.head_width.unwrap_or(self.d_model / heads);
            AttentionConfig {
                heads,
                kv_heads: heads,
                head_width,
                scale: match self.scale_attention {
                    true => 1.0 / (head_width as f32).sqrt(),
                    false => 1.0,
                },
                bias: self.bias,
                output_bias: self.bias,
                causal,
                window: None,
                query_key_norm: None,
                rotary: None,
                dropout: self.attention_dropout,
            }
        };
        let layer = |self_attention, cross_attention, width| LayerConfig {
            self_attention,
            cross_attention,
            feed_forward: FeedForwardConfig {
                width,
                activation: self.activation,
                gated: self.gated,
                bias: self.bias,
                dropout: self.activation_dropout,
            },
            norm,
            order: self.norm,
            dropout: self.dropout,
        };
        let encoder_layer = layer(
            attention(self.encoder_heads, false),
            None,
            self.encoder_feed_forward,
        );
        let decoder_layer = layer(
            attention(self.decoder_heads, true),
            Some(attention(self.decoder_heads, false)),
            self.decoder_feed_forward,
        );
        let stack = |embedding, layer: LayerConfig, count| StackConfig {
            embedding,
            relative_positions: relative.then_some(self.relative_positions),
            layers: vec![layer; count],
            norm: self.final_norm.then_some(norm),
        };
        ModelConfig {
            d_model: self.d_model,
            encoder: Some(stack(
                embedding(source_table, self.source_vocab_size),
                encoder_layer,
                self.encoder_layers,
            )),
            decoder: Some(stack(
                embedding(target_table, self.target_vocab_size),
                decoder_layer,
                self.decoder_layers,
            )),
            head: Some(HeadConfig {
                first_row: false,
                dense: None,
                norm: None,
                output: Some(OutputConfig::Tokens {
                    table: if self.tie_output {
                        target_table
                    } else {
                        "output.weight"
                    },
                    vocab_size: self.target_vocab_size,
                    bias: self.output_bias,
                    scale: match self.scale_output {
                        true => 1.0 / (self.d_model as f32).sqrt(),
                        false => 1.0,
                    },
                }),
            }),
        }
    }

    /// Whether it has what T5 is made of (Raffel et al. 2020), and no family of the paper's own mathematics can say.
    pub(crate) fn is_of_t5(&self) -> bool {
        self.positions == Positions::Relative
            || self.norm_kind != NormKind::Layer
            || self.head_width.is_some()
            || self.gated
            || !self.bias
            || !self.scale_attention
            || self.scale_output
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
            ("source_vocab_size", self.source_vocab_size, 1 << 24),
            ("target_vocab_size", self.target_vocab_size, 1 << 24),
            ("d_model", self.d_model, 1 << 16),
            ("encoder_heads", self.encoder_heads, 1 << 12),
            ("decoder_heads", self.decoder_heads, 1 << 12),
            ("encoder_feed_forward", self.encoder_feed_forward, 1 << 17),
            ("decoder_feed_forward", self.decoder_feed_forward, 1 << 17),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1 << 20,
            ),
        ] {
            if value == 0 || value > limit {
                return refuse(key, format!("1 to {limit}"), value.to_string());
            }
        }
        for (key, layers) in [
            ("encoder_layers", self.encoder_layers),
            ("decoder_layers", self.decoder_layers),
        ] {
            if layers == 0 || layers > 1000 {
                return refuse(key, "1 to 1000".into(), layers.to_string());
            }
        }
        for (key, heads) in [
            ("encoder_heads", self.encoder_heads),
            ("decoder_heads", self.decoder_heads),
        ] {
            match self.head_width {
                None if !self.d_model.is_multiple_of(heads) => {
                    let expected = format!("a divisor of d_model {}", self.d_model);
                    return refuse(key, expected, heads.to_string());
                }
                Some(width) if width == 0 || width.saturating_mul(heads) > 1 << 17 => {
                    let expected = format!("1 to {} with {heads} {key}", (1 << 17) / heads);
                    return refuse("head_width", expected, width.to_string());
                }
                _ => (),
            }
        }
        // The decoder looks to one side.
        if let Some((expected, found)) = self.relative_positions.misfit(1) {
            return refuse("relative_positions", expected, found);
        }
        let is_computed = !matches!(self.positions, Positions::Learned | Positions::Relative);
        if is_computed && !self.d_model.is_multiple_of(2) {
            return refuse(
                "d_model",
                "an even number (sinusoidal positions)".into(),
                self.d_model.to_string(),
            );
        }
        if self.positions == Positions::SinusoidalHalvesFairseq && self.d_model < 4 {
            return refuse("d_model", "at least 4".into(), self.d_model.to_string());
        }
        // Checked before the table is computed, and before its rows are asked for.
        let rows = self
            .max_position_embeddings
            .saturating_add(self.position_offset);
        let has_rows = self.positions != Positions::Relative;
        if has_rows && rows.saturating_mul(self.d_model) > MAX_POSITION_NUMBERS {
            return refuse(
                "max_position_embeddings",
                format!(
                    "at most {} with position_offset {} and d_model {}",
                    (MAX_POSITION_NUMBERS / self.d_model).saturating_sub(self.position_offset),
                    self.position_offset,
                    self.d_model
                ),
                self.max_position_embeddings.to_string(),
            );
        }
        if self.share_embeddings && self.source_vocab_size != self.target_vocab_size {
            return refuse(
                "share_embeddings",
                "equal source and target vocabularies".into(),
                format!("{} and {}", self.source_vocab_size, self.target_vocab_size),
            );
        }
        for (key, p) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
        ] {
            if !(0.0..1.0).contains(&p) {
                return refuse(key, "at least 0 and below 1".into(), p.to_string());
            }
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return refuse(
                "layer_norm_eps",
                "between 0 and 1".into(),
                self.layer_norm_eps.to_string(),
            );
        }
        for (key, id) in [
            ("pad_token_id", Some(self.pad_token_id)),
            ("eos_token_id", Some(self.eos_token_id)),
            ("decoder_start_token_id", Some(self.decoder_start_token_id)),
            ("forced_bos_token_id", self.forced_bos_token_id),
        ] {
            if let Some(id) = id.filter(|id| *id as usize >= self.target_vocab_size) {
                return refuse(
                    key,
                    format!("below target_vocab_size {}", self.target_vocab_size),
                    id.to_string(),
                );
            }
        }
        Ok(())
    }
}
