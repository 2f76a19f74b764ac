//! A model taken apart: an encoder, a decoder or both, each a stack of layers over an embedding, and a head.
//!
//! Every choice is made here. A layer is built from its part of this, and nothing below looks at a configuration again.

use super::transformer::{Activation, Norm, Positions, TransformerConfig};

/// The shape and the mathematics of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Width of every token's vector.
    pub d_model: usize,
    /// The half that sees its whole text.
    pub encoder: Option<StackConfig>,
    /// The half that sees its text up to each token, and the encoder's output where there is one.
    pub decoder: Option<StackConfig>,
    /// What is made of the last half's output.
    pub head: HeadConfig,
}

/// An embedding and the layers above it.
#[derive(Debug, Clone, PartialEq)]
pub struct StackConfig {
    /// What comes in.
    pub embedding: EmbeddingConfig,
    /// From the lowest up.
    pub layers: Vec<LayerConfig>,
    /// A last norm.
    pub norm: Option<NormConfig>,
}

/// Token vectors and positions.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingConfig {
    /// The name of its table. Stacks with one name share one table.
    pub table: &'static str,
    /// The table's rows.
    pub vocab_size: usize,
    /// What a token's vector is multiplied by.
    pub scale: f32,
    /// Kind of positions.
    pub positions: Positions,
    /// Number of the first position.
    pub position_offset: usize,
    /// Longest text, in tokens.
    pub max_positions: usize,
    /// A token that has no position, as in fairseq: it does not count for those behind it.
    pub unplaced_token: Option<u32>,
    /// Of the sum.
    pub dropout: f32,
}

/// A layer: self-attention, attention over the encoder's output or none, feed-forward.
#[derive(Debug, Clone, PartialEq)]
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
    pub dropout: f32,
}

/// Attention in several heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Columns of each head in queries, keys and values.
    pub head_width: usize,
    /// What a product of query and key is multiplied by.
    pub scale: f32,
    /// Whether a row sees no row behind its own.
    pub causal: bool,
    /// Of the probabilities.
    pub dropout: f32,
}

/// Two linear layers and what stands between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeedForwardConfig {
    /// Inner width.
    pub width: usize,
    /// Between the two.
    pub activation: Activation,
    /// After the activation.
    pub dropout: f32,
}

/// Layer norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// Added to the variance.
    pub eps: f32,
}

/// What a model says in the end.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadConfig {
    /// A logit for each token of a vocabulary.
    Tokens {
        /// The name of its table; an embedding's where these are tied.
        table: &'static str,
        /// The table's rows.
        vocab_size: usize,
        /// Whether each token has a bias.
        bias: bool,
    },
}

impl TransformerConfig {
    /// The same model, taken apart: the paper's encoder and decoder.
    pub fn model(&self) -> ModelConfig {
        let [source_table, target_table] = match self.share_embeddings {
            true => ["embedding.weight"; 2],
            false => ["source_embedding.weight", "target_embedding.weight"],
        };
        let norm = NormConfig {
            eps: self.layer_norm_eps,
        };
        let fairseq = self.positions == Positions::SinusoidalHalvesFairseq;
        let unplaced = fairseq && (self.pad_token_id as usize) < self.position_offset;
        let embedding = |table, vocab_size| EmbeddingConfig {
            table,
            vocab_size,
            scale: match self.scale_embedding {
                true => (self.d_model as f32).sqrt(),
                false => 1.0,
            },
            positions: self.positions,
            position_offset: self.position_offset,
            max_positions: self.max_position_embeddings,
            unplaced_token: unplaced.then_some(self.pad_token_id),
            dropout: self.dropout,
        };
        let attention = |heads: usize, causal| AttentionConfig {
            heads,
            kv_heads: heads,
            head_width: self.d_model / heads,
            scale: 1.0 / ((self.d_model / heads) as f32).sqrt(),
            causal,
            dropout: self.attention_dropout,
        };
        let layer = |self_attention, cross_attention, width| LayerConfig {
            self_attention,
            cross_attention,
            feed_forward: FeedForwardConfig {
                width,
                activation: self.activation,
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
            head: HeadConfig::Tokens {
                table: if self.tie_output {
                    target_table
                } else {
                    "output.weight"
                },
                vocab_size: self.target_vocab_size,
                bias: self.output_bias,
            },
        }
    }
}
