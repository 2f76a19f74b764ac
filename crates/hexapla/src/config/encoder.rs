//! The shape and the mathematics of an encoder alone: BERT and what descends from it.

use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::norm::{Norm, NormConfig, NormKind};
use super::positions::{Positions, RelativePositions};
use super::stack::{
    AttentionConfig, DenseConfig, EmbeddingConfig, FeedForwardConfig, HeadConfig, LayerConfig,
    ModelConfig, OutputConfig, StackConfig,
};
use crate::error::{Error, Result};

/// An encoder: post-norm, with trained positions and a norm of the embedding (Devlin et al. 2019, "BERT").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Rows of the table of segments; 0 where there is none.
    pub segments: usize,
    /// Width of every token's vector.
    pub d_model: usize,
    /// Columns of the embedding's tables; others than d_model are followed by a linear layer (ELECTRA).
    pub embedding_width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads of each layer.
    pub heads: usize,
    /// Inner width of the feed-forward block.
    pub feed_forward: usize,
    /// Non-linearity of the feed-forward block.
    pub activation: Activation,
    /// Added to variances in layer norm.
    pub layer_norm_eps: f32,
    /// Longest text, in tokens.
    pub max_position_embeddings: usize,
    /// Position of the first token: 0, or one more than `pad_token_id`, which then has no position (fairseq, RoBERTa).
    pub position_offset: usize,
    /// Numbers for the distances between tokens, one set for all layers (MPNet).
    pub relative_positions: Option<RelativePositions>,
    /// Dropout on embeddings and on every sublayer's output.
    pub dropout: f32,
    /// Dropout on attention probabilities.
    pub attention_dropout: f32,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// What is made of its output.
    pub head: EncoderHead,
}

/// What is made of an encoder's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderHead {
    /// Nothing: its vectors are the answer. A pooler (a linear layer of the first row, and tanh) may be there without use.
    Hidden {
        /// Whether it is.
        pooler: bool,
    },
    /// A logit for each token of the vocabulary, for masked words.
    Tokens {
        /// Between the last linear layer and the table, which is the embedding's.
        activation: Activation,
    },
    /// A logit for each class of a text.
    Classes {
        /// Their names.
        labels: Vec<String>,
        /// After the linear layer of the first row.
        activation: Activation,
        /// What becomes of the logits.
        scores: ClassScores,
    },
    /// A logit for each class of a token.
    TokenClasses {
        /// Their names.
        labels: Vec<String>,
        /// After a linear layer of each row, where there is one (ELECTRA's discriminator).
        activation: Option<Activation>,
    },
}

/// What becomes of a text's logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassScores {
    /// One of the classes: probabilities that add up to 1.
    Softmax,
    /// Each class by itself: a probability.
    Sigmoid,
    /// They are the scores.
    Logits,
}

impl EncoderHead {
    /// The names of its classes; none where it has no classes.
    pub fn labels(&self) -> &[String] {
        match self {
            EncoderHead::Classes { labels, .. } | EncoderHead::TokenClasses { labels, .. } => {
                labels
            }
            _ => &[],
        }
    }
}

/// Most numbers in a table: four GiB of them.
const MAX_TABLE_NUMBERS: usize = 1 << 30;

impl EncoderConfig {
    /// The same model, taken apart.
    pub fn model(&self) -> ModelConfig {
        let norm = NormConfig {
            kind: NormKind::Layer,
            eps: self.layer_norm_eps,
        };
        let head_width = self.d_model / self.heads;
        let layer = LayerConfig {
            self_attention: AttentionConfig {
                heads: self.heads,
                kv_heads: self.heads,
                head_width,
                scale: 1.0 / (head_width as f32).sqrt(),
                bias: true,
                output_bias: true,
                causal: false,
                window: None,
                query_key_norm: None,
                rotary: None,
                dropout: self.attention_dropout,
            },
            cross_attention: None,
            feed_forward: FeedForwardConfig {
                width: self.feed_forward,
                activation: self.activation,
                gated: false,
                bias: true,
                dropout: 0.0,
            },
            norm,
            order: Norm::Post,
            dropout: self.dropout,
        };
        ModelConfig {
            d_model: self.d_model,
            encoder: Some(StackConfig {
                embedding: EmbeddingConfig {
                    table: TABLE,
                    vocab_size: self.vocab_size,
                    width: self.embedding_width,
                    scale: 1.0,
                    positions: Some(Positions::Learned),
                    position_offset: self.position_offset,
                    max_positions: self.max_position_embeddings,
                    unplaced_token: (self.position_offset > 0).then_some(self.pad_token_id),
                    segments: self.segments,
                    norm: Some(norm),
                    dropout: self.dropout,
                },
                relative_positions: self.relative_positions,
                layers: vec![layer; self.layers],
                norm: None,
            }),
            decoder: None,
            head: self.head_config(norm),
        }
    }

    fn head_config(&self, norm: NormConfig) -> Option<HeadConfig> {
        let dense = |activation| DenseConfig {
            width: self.d_model,
            activation,
        };
        Some(match &self.head {
            EncoderHead::Hidden { pooler: false } => return None,
            EncoderHead::Hidden { pooler: true } => HeadConfig {
                first_row: true,
                dense: Some(dense(Activation::Tanh)),
                norm: None,
                output: None,
            },
            EncoderHead::Tokens { activation } => HeadConfig {
                first_row: false,
                dense: Some(DenseConfig {
                    width: self.embedding_width,
                    activation: *activation,
                }),
                norm: Some(norm),
                output: Some(OutputConfig::Tokens {
                    table: TABLE,
                    vocab_size: self.vocab_size,
                    bias: true,
                    scale: 1.0,
                }),
            },
            EncoderHead::Classes {
                labels, activation, ..
            } => HeadConfig {
                first_row: true,
                dense: Some(dense(*activation)),
                norm: None,
                output: Some(OutputConfig::Classes(labels.len())),
            },
            EncoderHead::TokenClasses { labels, activation } => HeadConfig {
                first_row: false,
                dense: activation.map(dense),
                norm: None,
                output: Some(OutputConfig::Classes(labels.len())),
            },
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
        let positions = self
            .max_position_embeddings
            .saturating_add(self.position_offset);
        for (key, value, limit) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("d_model", self.d_model, 1 << 16),
            ("embedding_width", self.embedding_width, 1 << 16),
            ("layers", self.layers, 1000),
            ("heads", self.heads, 1 << 12),
            ("feed_forward", self.feed_forward, 1 << 17),
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
        if !self.d_model.is_multiple_of(self.heads) {
            let expected = format!("a divisor of d_model {}", self.d_model);
            return refuse("heads", expected, self.heads.to_string());
        }
        if self.segments > 1 << 16 {
            return refuse(
                "segments",
                "at most 65536".into(),
                self.segments.to_string(),
            );
        }
        for (key, rows, columns) in [
            ("vocab_size", self.vocab_size, self.embedding_width),
            ("max_position_embeddings", positions, self.embedding_width),
            ("feed_forward", self.feed_forward, self.d_model),
        ] {
            if rows.saturating_mul(columns) > MAX_TABLE_NUMBERS {
                let expected = format!("at most {}", MAX_TABLE_NUMBERS / columns);
                return refuse(key, expected, rows.to_string());
            }
        }
        let misfit = self.relative_positions.and_then(|r| r.misfit(2));
        if let Some((expected, found)) = misfit {
            return refuse("relative_positions", expected, found);
        }
        let pad = self.pad_token_id as usize;
        if pad >= self.vocab_size {
            let expected = format!("below vocab_size {}", self.vocab_size);
            return refuse("pad_token_id", expected, pad.to_string());
        }
        if self.position_offset != 0 && self.position_offset != pad + 1 {
            return refuse(
                "position_offset",
                format!("0, or {} (pad_token_id + 1)", pad + 1),
                self.position_offset.to_string(),
            );
        }
        for (key, p) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
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
        let is_classifier = matches!(
            self.head,
            EncoderHead::Classes { .. } | EncoderHead::TokenClasses { .. }
        );
        let classes = self.head.labels().len();
        if is_classifier && !(1..=1 << 20).contains(&classes) {
            return refuse("labels", "1 to 1048576".into(), classes.to_string());
        }
        Ok(())
    }
}

/// The embedding's table.
const TABLE: &str = "embedding.weight";
