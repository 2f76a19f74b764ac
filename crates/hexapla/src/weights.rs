//! The model's parameters: one flat run of numbers, and an index that names its parts.

use std::ops::Range;
use std::sync::Arc;

use hexapla_kernels::{Buffer, Int8Scales, Matrix};

use crate::random::{SplitMix, mix};

/// What a parameter is, and how it starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A linear layer's `[in, out]`: uniform within ±√(6/(in+out)) (Glorot).
    Weight,
    /// An embedding's `[vocab, d_model]`: normal with this standard deviation.
    Table(f32),
    /// Trained positions `[positions, d_model]`: as a table.
    Positions(f32),
    /// A bias, scale or shift: all the same.
    Vector(f32),
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
    /// What it is.
    pub kind: Kind,
}

/// A handle to a parameter: its number in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParameterId(pub usize);

/// All parameters in their fixed order. The order is that of the flat run and never changes for a configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParameterIndex {
    parameters: Vec<Parameter>,
    /// How what the matrices are multiplied by is scaled in int8.
    pub int8_scales: Int8Scales,
}

impl ParameterIndex {
    /// Adds a parameter at the end.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], kind: Kind) -> ParameterId {
        let start = self.len();
        self.parameters.push(Parameter {
            name: name.into(),
            shape: shape.to_vec(),
            range: start..start + shape.iter().product::<usize>(),
            kind,
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

    /// All parameters with their handles, in order.
    pub fn ids(&self) -> impl Iterator<Item = (ParameterId, &Parameter)> {
        self.parameters
            .iter()
            .enumerate()
            .map(|(number, parameter)| (ParameterId(number), parameter))
    }

    /// The handle of the parameter called `name`.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.parameters
            .iter()
            .position(|p| p.name == name)
            .map(ParameterId)
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
    /// Names, shapes and ranges.
    pub index: Arc<ParameterIndex>,
    /// The flat run, `index.len()` long.
    pub data: Buffer,
}

impl Weights {
    /// All zeros.
    pub fn zeros(index: Arc<ParameterIndex>) -> Self {
        let data = Buffer::zeros(index.len());
        Weights { index, data }
    }

    /// Seeded random numbers as each parameter's [`Kind`] says; the same for a seed on every machine.
    pub fn random(index: Arc<ParameterIndex>, seed: u64) -> Self {
        let mut weights = Weights::zeros(index.clone());
        for (number, parameter) in index.iter().enumerate() {
            // Both are mixed: streams that began a multiple of SplitMix's own step apart would be one stream, shifted.
            let mut random = SplitMix(mix(seed ^ mix(number as u64)));
            let values = &mut weights.data[parameter.range.clone()];
            match parameter.kind {
                Kind::Vector(value) => values.fill(value),
                Kind::Table(deviation) | Kind::Positions(deviation) => values
                    .iter_mut()
                    .for_each(|v| *v = deviation * random.normal()),
                Kind::Weight => {
                    let limit = (6.0 / parameter.shape.iter().sum::<usize>() as f32).sqrt();
                    values
                        .iter_mut()
                        .for_each(|v| *v = limit * (2.0 * random.uniform() - 1.0));
                }
            }
        }
        weights
    }

    /// The numbers of one parameter.
    pub fn get(&self, id: ParameterId) -> &[f32] {
        &self.data[self.index.get(id).range.clone()]
    }

    /// A parameter of two dimensions as a matrix.
    pub fn matrix(&self, id: ParameterId) -> Matrix<'_> {
        let shape = &self.index.get(id).shape;
        Matrix::new(self.get(id), shape[0], shape[1], shape[1])
    }

    /// The numbers of one parameter, to change.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [f32] {
        &mut self.data[self.index.get(id).range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn index() -> Arc<ParameterIndex> {
        let mut index = ParameterIndex::default();
        for i in 0..72 {
            index.add(format!("weight {i}"), &[64, 64], Kind::Weight);
            index.add(format!("table {i}"), &[50, 64], Kind::Table(1.0));
            index.add(format!("scale {i}"), &[64], Kind::Vector(1.0));
        }
        Arc::new(index)
    }

    #[test]
    fn no_two_parameters_share_a_run_of_draws() {
        for seed in [0, 1, 2, 7, 42, 1234, u64::MAX] {
            let weights = Weights::random(index(), seed);
            let mut seen = HashMap::new();
            for p in weights.index.iter() {
                if matches!(p.kind, Kind::Vector(_)) {
                    continue;
                }
                let values = &weights.data[p.range.clone()];
                for (i, run) in values.windows(3).enumerate() {
                    let index = (p.name.clone(), i);
                    let old = seen.insert([run[0], run[1], run[2]].map(f32::to_bits), index);
                    assert_eq!(old, None, "seed {seed}: {} at {i}", p.name);
                }
            }
        }
    }

    /// Under independence a correlation of n numbers has a standard deviation of 1/√n; none of the 72 × 2 pairs of
    /// neighbours, at any of 33 shifts, is far outside.
    #[test]
    fn parameters_are_not_correlated_at_any_small_shift() {
        let weights = Weights::random(index(), 1);
        let matrices = weights.index.iter().filter(|p| p.kind == Kind::Weight);
        let matrices: Vec<&[f32]> = matrices.map(|p| &weights.data[p.range.clone()]).collect();
        for pair in matrices.windows(2) {
            for shift in 0..33 {
                let (a, b) = (&pair[0][shift..], &pair[1][..pair[1].len() - shift]);
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
                    products.sum()
                };
                let r = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
                assert!(
                    r.abs() < 6.0 / (a.len() as f64).sqrt(),
                    "shift {shift}: {r}"
                );
            }
        }
    }
}
