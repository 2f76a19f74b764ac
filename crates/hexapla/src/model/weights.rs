//! The model's parameters: one flat run of numbers, and an index that names its parts.

use std::ops::Range;
use std::sync::Arc;

use crate::config::{Positions, TransformerConfig};

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Uniform within ±√(6/(in+out)) (Glorot).
    Glorot,
    /// Normal with this standard deviation.
    Normal(f32),
    /// All the same.
    Constant(f32),
}

/// One named parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// For example `encoder.layers.0.self_attention.query.weight`.
    pub name: String,
    /// `[n]` or `[rows, columns]`. A linear layer's weight is `[in, out]`, an embedding `[vocab, d_model]`.
    pub shape: Vec<usize>,
    /// Where its numbers lie in the flat run.
    pub range: Range<usize>,
    /// How it starts.
    pub init: Init,
}

/// A handle to a parameter: its place in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParameterId(pub usize);

/// All parameters in their fixed order. The order is that of the flat run and never changes for a configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParameterIndex {
    parameters: Vec<Parameter>,
}

impl ParameterIndex {
    /// Adds a parameter at the end.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> ParameterId {
        let start = self.len();
        self.parameters.push(Parameter {
            name: name.into(),
            shape: shape.to_vec(),
            range: start..start + shape.iter().product::<usize>(),
            init,
        });
        ParameterId(self.parameters.len() - 1)
    }

    /// The parameter behind a handle.
    pub fn get(&self, id: ParameterId) -> &Parameter {
        &self.parameters[id.0]
    }

    /// All parameters, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.parameters.iter()
    }

    /// The handle of the parameter called `name`.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.parameters.iter().position(|p| p.name == name).map(ParameterId)
    }

    /// Numbers in the flat run.
    pub fn len(&self) -> usize {
        self.parameters.last().map_or(0, |p| p.range.end)
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }
}

/// The numbers of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Names, shapes and places.
    pub index: Arc<ParameterIndex>,
    /// The flat run, `index.len()` long.
    pub data: Vec<f32>,
}

impl Weights {
    /// All zeros.
    pub fn zeros(index: Arc<ParameterIndex>) -> Self {
        let data = vec![0.0; index.len()];
        Weights { index, data }
    }

    /// Seeded random numbers as each parameter's [`Init`] says; the same for a seed on every machine.
    pub fn random(index: Arc<ParameterIndex>, seed: u64) -> Self {
        let mut weights = Weights::zeros(index.clone());
        for (number, parameter) in index.iter().enumerate() {
            let mut random = SplitMix(seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let values = &mut weights.data[parameter.range.clone()];
            match parameter.init {
                Init::Constant(value) => values.fill(value),
                Init::Normal(deviation) => values.iter_mut().for_each(|v| *v = deviation * random.normal()),
                Init::Glorot => {
                    let limit = (6.0 / parameter.shape.iter().sum::<usize>() as f32).sqrt();
                    values.iter_mut().for_each(|v| *v = limit * (2.0 * random.uniform() - 1.0));
                }
            }
        }
        weights
    }

    /// The numbers of one parameter.
    pub fn get(&self, id: ParameterId) -> &[f32] {
        &self.data[self.index.get(id).range.clone()]
    }

    /// The numbers of one parameter, to change.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [f32] {
        &mut self.data[self.index.get(id).range.clone()]
    }
}

/// A small seeded generator for initial weights and shuffles (SplitMix64).
#[derive(Debug, Clone)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Standard normal (Box–Muller), computed in f64 with `libm` so that every machine agrees.
    pub fn normal(&mut self) -> f32 {
        let u = ((self.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let v = (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        (libm::sqrt(-2.0 * libm::log(u)) * libm::cos(std::f64::consts::TAU * v)) as f32
    }

    /// Uniform in 0..n (n > 0).
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Puts `items` in random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Names of the embedding tables: source, target, output (equal where they are shared or tied).
pub fn embedding_names(config: &TransformerConfig) -> [&'static str; 3] {
    let (source, target) = if config.share_embeddings {
        ("embedding.weight", "embedding.weight")
    } else {
        ("source_embedding.weight", "target_embedding.weight")
    };
    [source, target, if config.tie_output { target } else { "output.weight" }]
}

/// Rows of a learned position table.
pub fn position_rows(config: &TransformerConfig) -> usize {
    config.max_position_embeddings + config.position_offset
}

/// Whether positions are trained.
pub fn has_learned_positions(config: &TransformerConfig) -> bool {
    config.positions == Positions::Learned
}
