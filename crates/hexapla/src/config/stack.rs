//! A model taken apart: an encoder, a decoder or both, each a stack of layers over an embedding, and a head.
//!
//! Every choice is made here. A layer is built from its part of this, and nothing below looks at a configuration again.

use serde::{Deserialize, Serialize};

use super::rotary::RotaryConfig;
use super::transformer::{Activation, Norm, Positions, TransformerConfig};

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
    /// Added to the scores of all layers, by the distance between query and key.
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

/// A number for each head and each bucket of distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelativePositions {
    /// Buckets, those of both sides together.
    pub buckets: usize,
    /// Distances from here on share a bucket.
    pub max_distance: usize,
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

/// A norm of each row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NormConfig {
    /// Which.
    pub kind: NormKind,
    /// Added to the variance, or to the mean of the squares.
    pub eps: f32,
}

/// Kinds of norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Layer norm, with scale and shift (Ba et al. 2016).
    Layer,
    /// RMS norm, with a scale alone (Zhang and Sennrich 2019).
    Rms,
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
    },
    /// A logit for each of so many classes.
    Classes(usize),
}

impl TransformerConfig {
    /// The same model, taken apart: the paper's encoder and decoder.
    pub fn model(&self) -> ModelConfig {
        let [source_table, target_table] = match self.share_embeddings {
            true => ["embedding.weight"; 2],
            false => ["source_embedding.weight", "target_embedding.weight"],
        };
        let norm = NormConfig {
            kind: NormKind::Layer,
            eps: self.layer_norm_eps,
        };
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
            positions: Some(self.positions),
            position_offset: self.position_offset,
            max_positions: self.max_position_embeddings,
            unplaced_token: unplaced.then_some(self.pad_token_id),
            segments: 0,
            norm: self.embedding_norm.then_some(norm),
            dropout: self.dropout,
        };
        let attention = |heads: usize, causal| AttentionConfig {
            heads,
            kv_heads: heads,
            head_width: self.d_model / heads,
            scale: 1.0 / ((self.d_model / heads) as f32).sqrt(),
            bias: true,
            output_bias: true,
            causal,
            window: None,
            query_key_norm: None,
            rotary: None,
            dropout: self.attention_dropout,
        };
        let layer = |self_attention, cross_attention, width| LayerConfig {
            self_attention,
            cross_attention,
            feed_forward: FeedForwardConfig {
                width,
                activation: self.activation,
                gated: false,
                bias: true,
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
            relative_positions: None,
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
                }),
            }),
        }
    }
}
