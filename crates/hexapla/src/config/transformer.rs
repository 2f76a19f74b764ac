//! The shape and the mathematics of a model.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, unknown_name};

/// The non-linearity between the two linear layers of a feed-forward block (paper, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, x), as in the paper.
    Relu,
    /// max(0, x)² (So et al. 2021, "Primer").
    ReluSquared,
    /// x·Φ(x) with the exact error function.
    Gelu,
    /// x·sigmoid(x), also called SiLU.
    Swish,
    /// x·Φ(x) with Φ by a tanh: GPT-2.
    GeluTanh,
    /// x·sigmoid(1.702·x), close to GELU (Hendrycks and Gimpel 2016, section 2): `quick_gelu`, and older Marian's `gelu`.
    GeluSigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

/// Where layer norm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// `norm(x + sublayer(x))`, as in the paper.
    Post,
    /// `x + sublayer(norm(x))`.
    Pre,
}

/// How a token's position enters the model (paper, section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Sine in the even columns, cosine in the odd ones: the paper's equation.
    SinusoidalInterleaved,
    /// The paper's angles, sines in the first half of the vector and cosines in the second: Marian.
    SinusoidalHalves,
    /// Halves with angles `pos / 10000^(j/(d/2 - 1))`: fairseq, M2M-100.
    SinusoidalHalvesFairseq,
    /// A trained table.
    Learned,
}

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
    /// Kind of positions.
    pub positions: Positions,
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
            positions: Positions::SinusoidalHalves,
            position_offset: 0,
            max_position_embeddings: 512,
            scale_embedding: true,
            share_embeddings: true,
            tie_output: true,
            output_bias: true,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            pad_token_id: 0,
            eos_token_id: 0,
            decoder_start_token_id: 0,
            forced_bos_token_id: None,
        })
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
            if !self.d_model.is_multiple_of(heads) {
                return refuse(
                    key,
                    format!("a divisor of d_model {}", self.d_model),
                    heads.to_string(),
                );
            }
        }
        if self.positions != Positions::Learned && !self.d_model.is_multiple_of(2) {
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
        if rows.saturating_mul(self.d_model) > MAX_POSITION_NUMBERS {
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
