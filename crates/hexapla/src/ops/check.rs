//! Gradient checks: what a backward step says against central differences of the forward step.
//!
//! The objective is Σ out·c with fixed random c, summed in f64. With numbers of order one and a step of 1e-2, f32 rounding
//! makes an error of about 1e-5 in a slope and the second-order term about 1e-4; the tolerance is 2e-3 of the largest
//! slope, and a wrong formula is off by far more.

use std::sync::Arc;

use crate::ops::{DropoutKey, Gradients, PackedTable, Run};
use crate::random::SplitMix;
use crate::tensor::{Arena, Node, Tensor};
use crate::weights::{Kind, ParameterId, ParameterIndex, Weights};

/// An operation's inputs and parameters, to be filled with random numbers.
pub(crate) struct Check {
    inputs: Vec<(usize, usize)>,
    index: ParameterIndex,
}

impl Check {
    pub(crate) fn new() -> Self {
        Check {
            inputs: Vec::new(),
            index: ParameterIndex::default(),
        }
    }

    /// An input of `rows × columns`; its number.
    pub(crate) fn input(&mut self, rows: usize, columns: usize) -> usize {
        self.inputs.push((rows, columns));
        self.inputs.len() - 1
    }

    /// A parameter.
    pub(crate) fn parameter(&mut self, shape: &[usize]) -> ParameterId {
        let name = format!("p{}", self.index.iter().len());
        self.index.add(name, shape, Kind::Table(0.7))
    }

    pub(crate) fn weights(&self) -> Weights {
        Weights::random(Arc::new(self.index.clone()), 3)
    }

    /// Checks an operation that makes one tensor.
    pub(crate) fn run(&self, op: impl Fn(&mut Run, &[Tensor]) -> Tensor) {
        self.check(&|run, inputs| {
            let out = op(run, inputs);
            let mut random = SplitMix(11);
            let mut direction = run.arena.tensor(out.rows(), out.columns());
            direction
                .data_mut()
                .iter_mut()
                .for_each(|v| *v = random.normal());
            let objective = out
                .data()
                .iter()
                .zip(direction.data())
                .map(|(o, d)| f64::from(*o) * f64::from(*d))
                .sum();
            (objective, Some((out.node(), direction)))
        });
    }

    /// Checks an operation that makes a loss.
    pub(crate) fn run_loss(&self, op: impl Fn(&mut Run, &[Tensor]) -> f64) {
        self.check(&|run, inputs| (op(run, inputs), None));
    }

    #[allow(clippy::type_complexity)]
    fn check(
        &self,
        objective: &dyn Fn(&mut Run, &[Tensor]) -> (f64, Option<(Option<Node>, Tensor)>),
    ) {
        let arena = Arena::default();
        let weights = self.weights();
        let packed = PackedTable::NONE;
        let mut random = SplitMix(7);
        // Away from zero, where the ReLU has its kink.
        let mut number = || {
            let x = random.normal();
            x + 0.05f32.copysign(x)
        };
        let values: Vec<Vec<f32>> = self
            .inputs
            .iter()
            .map(|(r, c)| (0..r * c).map(|_| number()).collect())
            .collect();
        let evaluate =
            |weights: &Weights, values: &[Vec<f32>], flowing: Option<&mut Vec<Vec<f32>>>| {
                let mut gradients = Gradients::zeros(weights.data.len());
                let mut run = Run::training(
                    &arena,
                    weights,
                    &packed,
                    &mut gradients,
                    DropoutKey::new(1, 2, 3, 4),
                );
                let mut tensors = Vec::new();
                for ((rows, columns), values) in self.inputs.iter().zip(values) {
                    let mut t = run.tensor(*rows, *columns);
                    t.data_mut().copy_from_slice(values);
                    tensors.push(t);
                }
                let (value, start) = objective(&mut run, &tensors);
                let nodes: Vec<_> = tensors.iter().map(Tensor::node).collect();
                drop(tensors);
                if let Some(flowing) = flowing {
                    run.backward_from(|back| {
                        if let Some((node, direction)) = start {
                            back.give(node, direction);
                        }
                    });
                    for node in nodes {
                        flowing.push(
                            gradients
                                .flowing(node)
                                .map_or(Vec::new(), |t| t.data().to_vec()),
                        );
                    }
                }
                (value, gradients.data.to_vec())
            };
        let mut found_inputs = Vec::new();
        let (_, found_weights) = evaluate(&weights, &values, Some(&mut found_inputs));
        let step = 1e-2f32;
        let compare = |what: &str, found: &[f32], slope: &dyn Fn(usize) -> f64| {
            let slopes: Vec<f64> = (0..found.len()).map(slope).collect();
            let largest = slopes.iter().fold(1e-3f64, |m, s| m.max(s.abs()));
            for (i, (found, slope)) in found.iter().zip(&slopes).enumerate() {
                let error = (f64::from(*found) - slope).abs() / largest;
                assert!(error < 2e-3, "{what}[{i}]: backward {found}, slope {slope}");
            }
        };
        for (n, found) in found_inputs.iter().enumerate() {
            assert_eq!(
                found.len(),
                values[n].len(),
                "input {n} received no gradient"
            );
            compare(&format!("input {n}"), found, &|i| {
                let moved = |by: f32| {
                    let mut values = values.clone();
                    values[n][i] += by;
                    evaluate(&weights, &values, None).0
                };
                (moved(step) - moved(-step)) / (2.0 * f64::from(step))
            });
        }
        compare("parameter", &found_weights, &|i| {
            let moved = |by: f32| {
                let mut weights = weights.clone();
                weights.data[i] += by;
                evaluate(&weights, &values, None).0
            };
            (moved(step) - moved(-step)) / (2.0 * f64::from(step))
        });
    }
}
