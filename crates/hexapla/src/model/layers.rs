//! The boxes of the paper's figure 1. Each has one forward, for training, for whole sentences and for one decoding step.

use std::sync::Arc;

use hexapla_kernels::Activation;

use crate::config::{
    self, AttentionConfig, FeedForwardConfig, LayerConfig, Norm as Order, NormConfig, NormKind,
};
use crate::ops::Run;
use crate::ops::attention::{Attention, AttentionMask, Projections, attention};
use crate::ops::gate::gate;
use crate::ops::layer_norm::layer_norm;
use crate::ops::linear::{linear, linear_activated, linears};
use crate::ops::pointwise::{dropout, residual};
use crate::ops::relative::RelativeBias;
use crate::ops::rms_norm::rms_norm;
use crate::ops::rotary::{Turns, rotary};
use crate::tensor::Tensor;
use crate::weights::{Kind, ParameterId, ParameterIndex};

/// `x · W + b`, or without b.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[in, out]`.
    pub weight: ParameterId,
    /// `[out]`.
    pub bias: Option<ParameterId>,
}

impl Linear {
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        [inputs, outputs]: [usize; 2],
        bias: bool,
    ) -> Self {
        Linear {
            weight: index.add(format!("{name}.weight"), &[inputs, outputs], Kind::Weight),
            bias: bias.then(|| index.add(format!("{name}.bias"), &[outputs], Kind::Vector(0.0))),
        }
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, run: &mut Run, x: &Tensor) -> Tensor {
        linear(run, x, self.weight, self.bias)
    }

    /// `[rows, in]` to what each of `layers` makes of it.
    fn all<const N: usize>(run: &mut Run, x: &Tensor, layers: [&Linear; N]) -> [Tensor; N] {
        linears(run, x, layers.map(|layer| (layer.weight, layer.bias)))
    }

    /// `[rows, in]` to `dropout(activation([rows, out]))`.
    pub(super) fn activated(
        &self,
        run: &mut Run,
        x: &Tensor,
        kind: Activation,
        dropout: f32,
    ) -> Tensor {
        linear_activated(run, x, self.weight, self.bias, kind, dropout)
    }
}

/// The kernels' name of an activation.
pub(crate) fn activation(activation: config::Activation) -> Activation {
    match activation {
        config::Activation::Relu => Activation::Relu,
        config::Activation::ReluSquared => Activation::ReluSquared,
        config::Activation::Gelu => Activation::Gelu,
        config::Activation::GeluTanh => Activation::GeluTanh,
        config::Activation::GeluSigmoid => Activation::GeluSigmoid,
        config::Activation::Swish => Activation::Swish,
        config::Activation::Tanh => Activation::Tanh,
    }
}

/// A norm with a trained scale.
#[derive(Debug, Clone)]
pub struct Norm {
    scale: ParameterId,
    /// Of layer norm; RMS norm has none.
    shift: Option<ParameterId>,
    eps: f32,
}

impl Norm {
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        width: usize,
        config: &NormConfig,
    ) -> Self {
        let mut vector =
            |part, value| index.add(format!("{name}.{part}"), &[width], Kind::Vector(value));
        Norm {
            scale: vector("weight", 1.0),
            shift: (config.kind == NormKind::Layer).then(|| vector("bias", 0.0)),
            eps: config.eps,
        }
    }

    /// `[rows, width]` to the same.
    pub fn forward(&self, run: &mut Run, x: &Tensor) -> Tensor {
        match self.shift {
            Some(shift) => layer_norm(run, x, self.scale, shift, self.eps),
            None => rms_norm(run, x, self.scale, self.eps),
        }
    }
}

/// The figure's "Add & Norm": a sublayer's residual connection and its norm (section 3.1).
#[derive(Debug, Clone)]
pub struct AddNorm {
    norm: Norm,
    order: Order,
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
            norm: Norm::new(index, name, d_model, &config.norm),
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
            Order::Post => {
                let y = sublayer(run, x);
                let sum = residual(run, x, &y, self.dropout);
                self.norm.forward(run, &sum)
            }
            Order::Pre => {
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
    /// Of each head of queries, and of keys.
    query_key_norm: Option<[Norm; 2]>,
    /// What queries and keys are turned by.
    turns: Option<Arc<Turns>>,
    attention: Attention,
}

impl MultiHeadAttention {
    pub(super) fn new(
        index: &mut ParameterIndex,
        name: &str,
        d_model: usize,
        config: &AttentionConfig,
        bias: Option<RelativeBias>,
        turns: Option<Arc<Turns>>,
    ) -> Self {
        let [width, kv_width] = [config.heads, config.kv_heads].map(|n| n * config.head_width);
        let mut linear = |part: &str, inputs, outputs, bias| {
            let name = format!("{name}.{part}");
            Linear::new(index, &name, [inputs, outputs], bias)
        };
        MultiHeadAttention {
            query: linear("query", d_model, width, config.bias),
            key: linear("key", d_model, kv_width, config.bias),
            value: linear("value", d_model, kv_width, config.bias),
            output: linear("output", width, d_model, config.output_bias),
            query_key_norm: config.query_key_norm.as_ref().map(|norm| {
                ["query_norm", "key_norm"].map(|part| {
                    let name = format!("{name}.{part}");
                    Norm::new(index, &name, config.head_width, norm)
                })
            }),
            turns,
            attention: Attention {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_width: config.head_width,
                scale: config.scale,
                bias,
                dropout: config.dropout,
                block_rows: Attention::BLOCK_ROWS,
            },
        }
    }

    /// Queries come from `x` `[rows, d_model]`, keys and values from `memory` `[memory rows, d_model]`, or from `x` itself where
    /// there is none (self-attention); the result has the shape of `x`. `positions` are those of its rows, which turned queries
    /// and keys show.
    pub fn forward(
        &self,
        run: &mut Run,
        x: &Tensor,
        positions: &[u32],
        memory: Option<&Tensor>,
        mask: AttentionMask,
    ) -> Tensor {
        let (query, key, value) = (&self.query, &self.key, &self.value);
        let [mut query, mut key, value] = match memory {
            None => Linear::all(run, x, [query, key, value]),
            Some(memory) => {
                let query = query.forward(run, x);
                let [key, value] = Linear::all(run, memory, [key, value]);
                [query, key, value]
            }
        };
        if let Some([query_norm, key_norm]) = &self.query_key_norm {
            query = query_norm.forward(run, &query);
            key = key_norm.forward(run, &key);
        }
        if let Some(turns) = &self.turns {
            let width = self.attention.head_width;
            query = rotary(run, &query, width, turns, positions);
            key = rotary(run, &key, width, turns, positions);
        }
        let projections = Projections { query, key, value };
        let heads = attention(run, projections, &self.attention, mask);
        self.output.forward(run, &heads)
    }
}

/// Position-wise feed-forward network (section 3.3).
#[derive(Debug, Clone)]
pub struct FeedForward {
    inner: Linear,
    /// What is activated and multiplied by the inner layer, which is not activated then (Shazeer 2020).
    gate: Option<Linear>,
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
        let mut linear =
            |part: &str, shape| Linear::new(index, &format!("{name}.{part}"), shape, config.bias);
        FeedForward {
            gate: config
                .gated
                .then(|| linear("gate", [d_model, config.width])),
            inner: linear("inner", [d_model, config.width]),
            outer: linear("outer", [config.width, d_model]),
            activation: activation(config.activation),
            dropout: config.dropout,
        }
    }

    /// `[rows, d_model]` to the same.
    pub fn forward(&self, run: &mut Run, x: &Tensor) -> Tensor {
        let inner = match &self.gate {
            None => self.inner.activated(run, x, self.activation, self.dropout), // (rows, feed_forward)
            Some(gate) => self.gated(run, x, gate),
        };
        self.outer.forward(run, &inner)
    }

    fn gated(&self, run: &mut Run, x: &Tensor, by: &Linear) -> Tensor {
        let [a, b] = Linear::all(run, x, [by, &self.inner]);
        let inner = gate(run, &a, &b, self.activation);
        dropout(run, inner, self.dropout)
    }
}
