//! The boxes of the paper's figure 1. Each has one forward, for training, for whole sentences and for one decoding step.

use hexapla_kernels::Activation;

use crate::config::{self, Norm, TransformerConfig};
use crate::ops::Run;
use crate::ops::attention::{Attention, AttentionMask, Projections, attention};
use crate::ops::layer_norm::layer_norm;
use crate::ops::linear::{linear, linear_activated};
use crate::ops::pointwise::residual;
use crate::tensor::Tensor;
use crate::weights::{Kind, ParameterId, ParameterIndex};

/// `x · W + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[in, out]`.
    pub weight: ParameterId,
    /// `[out]`.
    pub bias: ParameterId,
}

impl Linear {
    fn new(index: &mut ParameterIndex, name: &str, inputs: usize, outputs: usize) -> Self {
        Linear {
            weight: index.add(format!("{name}.weight"), &[inputs, outputs], Kind::Weight),
            bias: index.add(format!("{name}.bias"), &[outputs], Kind::Vector(0.0)),
        }
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, run: &mut Run, x: &Tensor) -> Tensor {
        linear(run, x, self.weight, Some(self.bias))
    }

    /// `[rows, in]` to `dropout(activation([rows, out]))`.
    fn activated(&self, run: &mut Run, x: &Tensor, kind: Activation, dropout: f32) -> Tensor {
        linear_activated(run, x, self.weight, self.bias, kind, dropout)
    }
}

/// Layer norm with a trained scale and shift.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    scale: ParameterId,
    shift: ParameterId,
    eps: f32,
}

impl LayerNorm {
    pub(crate) fn new(index: &mut ParameterIndex, name: &str, config: &TransformerConfig) -> Self {
        LayerNorm {
            scale: index.add(
                format!("{name}.weight"),
                &[config.d_model],
                Kind::Vector(1.0),
            ),
            shift: index.add(format!("{name}.bias"), &[config.d_model], Kind::Vector(0.0)),
            eps: config.layer_norm_eps,
        }
    }

    /// `[rows, d_model]` to the same.
    pub fn forward(&self, run: &mut Run, x: &Tensor) -> Tensor {
        layer_norm(run, x, self.scale, self.shift, self.eps)
    }
}

/// The figure's "Add & Norm": a sublayer's residual connection and its layer norm (section 3.1).
#[derive(Debug, Clone)]
pub struct AddNorm {
    norm: LayerNorm,
    order: Norm,
    dropout: f32,
}

impl AddNorm {
    fn new(index: &mut ParameterIndex, name: &str, config: &TransformerConfig) -> Self {
        AddNorm {
            norm: LayerNorm::new(index, name, config),
            order: config.norm,
            dropout: config.dropout,
        }
    }

    /// `norm(x + sublayer(x))`, or with pre-norm `x + sublayer(norm(x))`.
    pub fn around(
        &self,
        run: &mut Run,
        x: &Tensor,
        sublayer: impl FnOnce(&mut Run, &Tensor) -> Tensor,
    ) -> Tensor {
        match self.order {
            Norm::Post => {
                let y = sublayer(run, x);
                let sum = residual(run, x, &y, self.dropout);
                self.norm.forward(run, &sum)
            }
            Norm::Pre => {
                let normed = self.norm.forward(run, x);
                let y = sublayer(run, &normed);
                residual(run, x, &y, self.dropout)
            }
        }
    }
}

/// Multi-head attention (section 3.2.2).
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    dropout: f32,
}

impl MultiHeadAttention {
    fn new(
        index: &mut ParameterIndex,
        name: &str,
        config: &TransformerConfig,
        heads: usize,
    ) -> Self {
        let d = config.d_model;
        let mut linear = |part: &str| Linear::new(index, &format!("{name}.{part}"), d, d);
        MultiHeadAttention {
            query: linear("query"),
            key: linear("key"),
            value: linear("value"),
            output: linear("output"),
            heads,
            dropout: config.attention_dropout,
        }
    }

    /// Queries come from `x` `[rows, d_model]`, keys and values from `memory` `[memory rows, d_model]`, which is `x` itself in
    /// self-attention; the result has the shape of `x`.
    pub fn forward(
        &self,
        run: &mut Run,
        x: &Tensor,
        memory: &Tensor,
        mask: AttentionMask,
    ) -> Tensor {
        let query = self.query.forward(run, x);
        let key = self.key.forward(run, memory);
        let value = self.value.forward(run, memory);
        let options = Attention {
            heads: self.heads,
            dropout: self.dropout,
        };
        let projections = Projections { query, key, value };
        let heads = attention(run, projections, &options, mask);
        self.output.forward(run, &heads)
    }
}

/// Position-wise feed-forward network (section 3.3).
#[derive(Debug, Clone)]
pub struct FeedForward {
    inner: Linear,
    outer: Linear,
    activation: Activation,
    dropout: f32,
}

impl FeedForward {
    fn new(
        index: &mut ParameterIndex,
        name: &str,
        config: &TransformerConfig,
        width: usize,
    ) -> Self {
        FeedForward {
            inner: Linear::new(index, &format!("{name}.inner"), config.d_model, width),
            outer: Linear::new(index, &format!("{name}.outer"), width, config.d_model),
            activation: match config.activation {
                config::Activation::Relu => Activation::Relu,
                config::Activation::Gelu => Activation::Gelu,
                config::Activation::Swish => Activation::Swish,
            },
            dropout: config.activation_dropout,
        }
    }

    /// `[rows, d_model]` to the same.
    pub fn forward(&self, run: &mut Run, x: &Tensor) -> Tensor {
        let inner = self.inner.activated(run, x, self.activation, self.dropout); // (rows, feed_forward)
        self.outer.forward(run, &inner)
    }
}

/// The left box of figure 1.
#[derive(Debug, Clone)]
pub struct EncoderLayer {
    self_attention: MultiHeadAttention,
    self_attention_norm: AddNorm,
    feed_forward: FeedForward,
    feed_forward_norm: AddNorm,
}

impl EncoderLayer {
    pub(crate) fn new(index: &mut ParameterIndex, name: &str, config: &TransformerConfig) -> Self {
        let part = |part: &str| format!("{name}.{part}");
        EncoderLayer {
            self_attention: MultiHeadAttention::new(
                index,
                &part("self_attention"),
                config,
                config.encoder_heads,
            ),
            self_attention_norm: AddNorm::new(index, &part("self_attention_norm"), config),
            feed_forward: FeedForward::new(
                index,
                &part("feed_forward"),
                config,
                config.encoder_feed_forward,
            ),
            feed_forward_norm: AddNorm::new(index, &part("feed_forward_norm"), config),
        }
    }

    /// `x` is `[rows, d_model]`; `mask` says which rows are one sentence.
    pub fn forward(&self, run: &mut Run, x: &Tensor, mask: AttentionMask) -> Tensor {
        let x = self.self_attention_norm.around(run, x, |run, x| {
            self.self_attention.forward(run, x, x, mask)
        });
        self.feed_forward_norm
            .around(run, &x, |run, x| self.feed_forward.forward(run, x))
    }
}

/// The right box of figure 1.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    self_attention: MultiHeadAttention,
    self_attention_norm: AddNorm,
    cross_attention: MultiHeadAttention,
    cross_attention_norm: AddNorm,
    feed_forward: FeedForward,
    feed_forward_norm: AddNorm,
}

/// What a decoder layer attends to in the encoder's output.
pub struct Memory<'a> {
    /// The encoder's output `[source rows, d_model]`, or no rows where the cache of `mask` has their keys and values.
    pub rows: &'a Tensor,
    /// Which source rows each target row sees.
    pub mask: AttentionMask<'a>,
}

impl DecoderLayer {
    pub(crate) fn new(index: &mut ParameterIndex, name: &str, config: &TransformerConfig) -> Self {
        let part = |part: &str| format!("{name}.{part}");
        let heads = config.decoder_heads;
        DecoderLayer {
            self_attention: MultiHeadAttention::new(index, &part("self_attention"), config, heads),
            self_attention_norm: AddNorm::new(index, &part("self_attention_norm"), config),
            cross_attention: MultiHeadAttention::new(
                index,
                &part("cross_attention"),
                config,
                heads,
            ),
            cross_attention_norm: AddNorm::new(index, &part("cross_attention_norm"), config),
            feed_forward: FeedForward::new(
                index,
                &part("feed_forward"),
                config,
                config.decoder_feed_forward,
            ),
            feed_forward_norm: AddNorm::new(index, &part("feed_forward_norm"), config),
        }
    }

    /// `x` is `[rows, d_model]`; `mask` says which target rows each of them sees.
    pub fn forward(
        &self,
        run: &mut Run,
        x: &Tensor,
        mask: AttentionMask,
        memory: Memory,
    ) -> Tensor {
        let x = self.self_attention_norm.around(run, x, |run, x| {
            self.self_attention.forward(run, x, x, mask)
        });
        let x = self.cross_attention_norm.around(run, &x, |run, x| {
            self.cross_attention
                .forward(run, x, memory.rows, memory.mask)
        });
        self.feed_forward_norm
            .around(run, &x, |run, x| self.feed_forward.forward(run, x))
    }
}
