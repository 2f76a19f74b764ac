//! A model taken apart: an encoder, a decoder or both, each a stack of layers over an embedding, and a head.
//!
//! Every choice is made here. A layer is built from its part of this, and nothing below looks at a configuration again.

use serde::Serialize;

use super::activation::Activation;
use super::norm::{Norm, NormConfig};
use super::positions::{Positions, RelativePositions};
use super::rotary::RotaryConfig;

/// The shape and the mathematics of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelConfig {
    /// Width of every token's vector.
    pub d_model: usize,
    /// The half that sees its whole text.
    pub encoder: Option<StackConfig>,
    /// The half that sees its text up to each token, and the encoder's output where there is one.
    pub decoder: Option<StackConfig>,
    /// What is made of the last half's output.
    pub head: Option<HeadConfig>,
}

/// An embedding and the layers above it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StackConfig {
    /// What comes in.
    pub embedding: EmbeddingConfig,
    /// Added to the scores of self-attention in all layers, by the distance between query and key.
    pub relative_positions: Option<RelativePositions>,
    /// From the lowest up.
    pub layers: Vec<LayerConfig>,
    /// A last norm.
    pub norm: Option<NormConfig>,
}

/// Token vectors and positions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbeddingConfig {
    /// The name of its table. Stacks with one name share one table.
    pub table: &'static str,
    /// The table's rows.
    pub vocab_size: usize,
    /// The tables' columns. Where they are not d_model, a linear layer follows.
    pub width: usize,
    /// What a token's vector is multiplied by.
    pub scale: f32,
    /// Kind of positions that are added; none where attention knows them.
    pub positions: Option<Positions>,
    /// Number of the first position.
    pub position_offset: usize,
    /// Longest text, in tokens.
    pub max_positions: usize,
    /// A token that has no position, as in fairseq: it does not count for those behind it.
    pub unplaced_token: Option<u32>,
    /// Rows of the table of segments; 0 where there is none.
    pub segments: usize,
    /// Of the sum.
    pub norm: Option<NormConfig>,
    /// Of the sum, after its norm.
    #[serde(skip)]
    pub dropout: f32,
}

/// A layer: self-attention, attention over the encoder's output or none, feed-forward.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerConfig {
    /// Over the stack's own rows.
    pub self_attention: AttentionConfig,
    /// Over the encoder's output.
    pub cross_attention: Option<AttentionConfig>,
    /// Position-wise feed-forward network.
    pub feed_forward: FeedForwardConfig,
    /// That of each sublayer.
    pub norm: NormConfig,
    /// Where it stands.
    pub order: Norm,
    /// Of each sublayer's output.
    #[serde(skip)]
    pub dropout: f32,
}

/// Attention in several heads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AttentionConfig {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Columns of each head in queries, keys and values.
    pub head_width: usize,
    /// What a product of query and key is multiplied by.
    pub scale: f32,
    /// Whether queries, keys and values have biases.
    pub bias: bool,
    /// Whether the projection of the heads has a bias.
    pub output_bias: bool,
    /// Whether a row sees no row behind its own.
    pub causal: bool,
    /// How many rows a row sees at most, its own and those before it.
    pub window: Option<usize>,
    /// Of each head of queries and keys.
    pub query_key_norm: Option<NormConfig>,
    /// Angles by which queries and keys are turned.
    pub rotary: Option<RotaryConfig>,
    /// Of the probabilities.
    #[serde(skip)]
    pub dropout: f32,
}

/// Two linear layers and what stands between them, or three.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FeedForwardConfig {
    /// Inner width.
    pub width: usize,
    /// Behind the first.
    pub activation: Activation,
    /// Whether that multiplies another projection of the input.
    pub gated: bool,
    /// Whether the linear layers have a bias.
    pub bias: bool,
    /// After the activation.
    #[serde(skip)]
    pub dropout: f32,
}

/// What a model says in the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadConfig {
    /// Whether it speaks once for each text, from the text's first row; otherwise for each row.
    pub first_row: bool,
    /// A linear layer with an activation before the output.
    pub dense: Option<DenseConfig>,
    /// After that layer.
    pub norm: Option<NormConfig>,
    /// The last linear layer.
    pub output: Option<OutputConfig>,
}

/// A linear layer and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DenseConfig {
    /// Its outputs.
    pub width: usize,
    /// After it.
    pub activation: Activation,
}

/// The last linear layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputConfig {
    /// A logit for each token of a vocabulary.
    Tokens {
        /// The name of its table; an embedding's where these are tied.
        table: &'static str,
        /// The table's rows.
        vocab_size: usize,
        /// Whether each token has a bias.
        bias: bool,
        /// What the logits are multiplied by.
        scale: f32,
    },
    /// A logit for each of so many classes.
    Classes(usize),
}
