//! The paper's model in candle's operations.

use std::collections::HashMap;

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::ops::{layer_norm_slow, softmax};
use candle_nn::{Dropout, Linear, Module};

/// A batch of sentences of one length.
pub(crate) struct Batch {
    /// [sentences, length]
    pub(crate) source: Tensor,
    /// [sentences, length]
    pub(crate) decoder_input: Tensor,
    /// [sentences · length, 1]
    pub(crate) labels: Tensor,
}

/// Takes the initial weights by our names, and remembers the variables.
struct Store<'a> {
    tensors: &'a HashMap<String, Tensor>,
    variables: Vec<Var>,
}

impl Store<'_> {
    fn variable(&mut self, name: &str, transposed: bool) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            candle_core::bail!("no weight {name}");
        };
        let tensor = if transposed { tensor.t()?.contiguous()? } else { tensor.clone() };
        let variable = Var::from_tensor(&tensor)?;
        self.variables.push(variable.clone());
        Ok(variable.as_tensor().clone())
    }

    /// Our weights are [in, out], candle's [out, in].
    fn linear(&mut self, name: &str) -> Result<Linear> {
        let weight = self.variable(&format!("{name}.weight"), true)?;
        Ok(Linear::new(weight, Some(self.variable(&format!("{name}.bias"), false)?)))
    }

    fn norm(&mut self, name: &str) -> Result<Norm> {
        Ok(Norm {
            weight: self.variable(&format!("{name}.weight"), false)?,
            bias: self.variable(&format!("{name}.bias"), false)?,
        })
    }

    fn attention(&mut self, name: &str, heads: usize, dropout: f32) -> Result<Attention> {
        Ok(Attention {
            query: self.linear(&format!("{name}.query"))?,
            key: self.linear(&format!("{name}.key"))?,
            value: self.linear(&format!("{name}.value"))?,
            output: self.linear(&format!("{name}.output"))?,
            heads,
            dropout,
        })
    }
}

fn drop(x: Tensor, p: f32) -> Result<Tensor> {
    if p == 0.0 { Ok(x) } else { Dropout::new(p).forward(&x, true) }
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    /// The slow one: the fused layer norm records no backward step, and nothing below it would be trained.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm_slow(x, &self.weight, &self.bias, 1e-5)
    }
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    dropout: f32,
}

impl Attention {
    /// `x` [sentences, rows, width] looks at `memory` [sentences, columns, width].
    fn forward(&self, x: &Tensor, memory: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (sentences, rows, width) = x.dims3()?;
        let size = width / self.heads;
        let split = |y: Tensor| {
            let length = y.dim(1)?;
            y.reshape((sentences, length, self.heads, size))?.transpose(1, 2)?.contiguous()
        };
        let query = split((self.query.forward(x)? / (size as f64).sqrt())?)?;
        let key = split(self.key.forward(memory)?)?;
        let value = split(self.value.forward(memory)?)?;
        let mut scores = query.matmul(&key.transpose(2, 3)?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let weights = drop(softmax(&scores, D::Minus1)?, self.dropout)?;
        let mixed = weights.matmul(&value)?.transpose(1, 2)?.reshape((sentences, rows, width))?;
        self.output.forward(&mixed)
    }
}

struct Layer {
    self_attention: (Attention, Norm),
    cross_attention: Option<(Attention, Norm)>,
    inner: Linear,
    outer: Linear,
    norm: Norm,
    dropout: f32,
}

impl Layer {
    fn forward(&self, x: &Tensor, memory: Option<&Tensor>, mask: Option<&Tensor>) -> Result<Tensor> {
        let add = |x: &Tensor, y: Tensor, norm: &Norm| norm.forward(&(x + drop(y, self.dropout)?)?);
        let (attention, norm) = &self.self_attention;
        let mut x = add(x, attention.forward(x, x, mask)?, norm)?;
        if let (Some((attention, norm)), Some(memory)) = (&self.cross_attention, memory) {
            x = add(&x, attention.forward(&x, memory, None)?, norm)?;
        }
        let inner = drop(self.inner.forward(&x)?.relu()?, self.dropout)?;
        add(&x, self.outer.forward(&inner)?, &self.norm)
    }
}

pub(crate) struct Model {
    embedding: Tensor,
    output_bias: Tensor,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    /// [1024, width]
    positions: Tensor,
    dropout: f32,
}

impl Model {
    /// The model and its variables, which start from `tensors`; all of them must have a name in it.
    pub(crate) fn new(
        heads: usize,
        layers: usize,
        dropout: f32,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<(Self, Vec<Var>)> {
        let mut store = Store { tensors, variables: Vec::new() };
        let embedding = store.variable("embedding.weight", false)?;
        let mut stack = |side: &str| {
            let layer = |i| -> Result<Layer> {
                let name = format!("{side}.layers.{i}");
                let mut attention = |kind: &str| -> Result<(Attention, Norm)> {
                    let name = format!("{name}.{kind}_attention");
                    Ok((store.attention(&name, heads, dropout)?, store.norm(&format!("{name}_norm"))?))
                };
                Ok(Layer {
                    self_attention: attention("self")?,
                    cross_attention: if side == "decoder" { Some(attention("cross")?) } else { None },
                    inner: store.linear(&format!("{name}.feed_forward.inner"))?,
                    outer: store.linear(&format!("{name}.feed_forward.outer"))?,
                    norm: store.norm(&format!("{name}.feed_forward_norm"))?,
                    dropout,
                })
            };
            (0..layers).map(layer).collect::<Result<Vec<Layer>>>()
        };
        let (encoder, decoder) = (stack("encoder")?, stack("decoder")?);
        let output_bias = store.variable("output.bias", false)?;
        if store.variables.len() != tensors.len() {
            candle_core::bail!("{} weights, {} variables", tensors.len(), store.variables.len());
        }
        let positions = positions(1024, embedding.dim(1)?)?;
        let model = Model { embedding, output_bias, encoder, decoder, positions, dropout };
        Ok((model, store.variables))
    }

    /// Logits [sentences · length, vocabulary].
    pub(crate) fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let mut memory = self.embed(&batch.source)?;
        for layer in &self.encoder {
            memory = layer.forward(&memory, None, None)?;
        }
        let mut x = self.embed(&batch.decoder_input)?;
        let causal = causal(x.dim(1)?)?;
        for layer in &self.decoder {
            x = layer.forward(&x, Some(&memory), Some(&causal))?;
        }
        x.flatten(0, 1)?.matmul(&self.embedding.t()?)?.broadcast_add(&self.output_bias)
    }

    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        let (sentences, length) = ids.dims2()?;
        let width = self.embedding.dim(1)?;
        let x = self.embedding.index_select(&ids.flatten_all()?, 0)?.reshape((sentences, length, width))?;
        let x = (x * (width as f64).sqrt())?.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        drop(x, self.dropout)
    }
}

/// Sines in the first half of the vector, cosines in the second.
fn positions(length: usize, width: usize) -> Result<Tensor> {
    let half = width / 2;
    let value = |position: usize, i: usize| {
        let angle = position as f64 / 10000f64.powf((i % half) as f64 * 2.0 / width as f64);
        if i < half { angle.sin() as f32 } else { angle.cos() as f32 }
    };
    let values: Vec<f32> = (0..length * width).map(|n| value(n / width, n % width)).collect();
    Tensor::from_vec(values, (length, width), &Device::Cpu)
}

/// −∞ where a row would look at a later one.
fn causal(length: usize) -> Result<Tensor> {
    let value = |n: usize| if n % length > n / length { f32::NEG_INFINITY } else { 0.0 };
    Tensor::from_vec((0..length * length).map(value).collect(), (length, length), &Device::Cpu)
}
