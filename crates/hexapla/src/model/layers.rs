//! The boxes of the paper's figure 1. Each has one forward, for training, for whole sentences and for one decoding step.

use hexapla_kernels::Activation;

use crate::config::{self, AttentionConfig, FeedForwardConfig, LayerConfig, Norm, NormConfig};
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
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        d_model: usize,
        config: &NormConfig,
    ) -> Self {
        let mut vector =
            |part, value| index.add(format!("{name}.{part}"), &[d_model], Kind::Vector(value));
        LayerNorm {
            scale: vector("weight", 1.0),
            shift: vector("bias", 0.0),
            eps: config.eps,
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
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        d_model: usize,
        config: &LayerConfig,
    ) -> Self {
        AddNorm {
            norm: LayerNorm::new(index, name, d_model, &config.norm),
            order: config.order,
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
    attention: Attention,
}

impl MultiHeadAttention {
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        d_model: usize,
        config: &AttentionConfig,
    ) -> Self {
        let [width, kv_width] = [config.heads, config.kv_heads].map(|n| n * config.head_width);
        let mut linear = |part: &str, inputs, outputs| {
            Linear::new(index, &format!("{name}.{part}"), inputs, outputs)
        };
        MultiHeadAttention {
            query: linear("query", d_model, width),
            key: linear("key", d_model, kv_width),
            value: linear("value", d_model, kv_width),
            output: linear("output", width, d_model),
            attention: Attention {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_width: config.head_width,
                scale: config.scale,
                dropout: config.dropout,
            },
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
        let projections = Projections { query, key, value };
        let heads = attention(run, projections, &self.attention, mask);
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
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        d_model: usize,
        config: &FeedForwardConfig,
    ) -> Self {
        FeedForward {
            inner: Linear::new(index, &format!("{name}.inner"), d_model, config.width),
            outer: Linear::new(index, &format!("{name}.outer"), config.width, d_model),
            activation: match config.activation {
                config::Activation::Relu => Activation::Relu,
                config::Activation::Gelu => Activation::Gelu,
                config::Activation::Swish => Activation::Swish,
            },
            dropout: config.dropout,
        }
    }

    /// `[rows, d_model]` to the same.
    pub fn forward(&self, run: &mut Run, x: &Tensor) -> Tensor {
        let inner = self.inner.activated(run, x, self.activation, self.dropout); // (rows, feed_forward)
        self.outer.forward(run, &inner)
    }
}
