//! Adam and AdamW over the flat run of parameters, and the moving average of the weights, in two passes over memory: the
//! shards' gradients are summed and their norm taken; then, when the norm is known, everything else is done chunk by
//! chunk. Zeros for the next step's gradients are written by each shard's own thread when it begins: as part of these
//! passes they would have to go to memory all the same (with 60 million parameters, 65 ms together either way).

use hexapla_kernels::{AdamSettings, Buffer, Isa, adam, add_assign, blend, squared_norm};
use rayon::prelude::*;

use crate::config::{OptimizerKind, TrainingTable};
use crate::ops::Gradients;

/// Numbers handled at a time. The norm is summed chunk by chunk in order, whatever the number of threads.
const CHUNK: usize = 1 << 16;

/// The optimizer's memory.
#[derive(Debug, Clone)]
pub struct Optimizer {
    /// First moment.
    pub first: Buffer,
    /// Second moment.
    pub second: Buffer,
    /// Moving average of the weights, if one is kept.
    pub average: Option<Buffer>,
    /// Updates made.
    pub updates: u64,
    /// The last gradient's sums of squares, chunk by chunk.
    squares: Vec<f64>,
}

impl Optimizer {
    /// Nothing remembered; the moving average starts from `weights`.
    pub fn new(t: &TrainingTable, weights: &Buffer) -> Self {
        Optimizer {
            first: Buffer::zeros(weights.len()),
            second: Buffer::zeros(weights.len()),
            average: (t.ema_decay > 0.0).then(|| weights.clone()),
            updates: 0,
            squares: vec![0.0; weights.len().div_ceil(CHUNK)],
        }
    }

    /// Sums the shards' gradients into the first in their order, and updates `weights` with them unless they are not
    /// finite. Gives the norm of the sum before clipping.
    pub fn update(
        &mut self,
        t: &TrainingTable,
        learning_rate: f32,
        weights: &mut Buffer,
        gradients: &mut [Gradients],
    ) -> f64 {
        let isa = Isa::best();
        let Some((sum, others)) = gradients.split_first_mut() else {
            return 0.0;
        };
        let chunks = sum.data.par_chunks_mut(CHUNK);
        chunks
            .zip(&mut self.squares)
            .enumerate()
            .for_each(|(i, (sum, squares))| {
                for other in others.iter() {
                    add_assign(isa, sum, &other.data[i * CHUNK..][..sum.len()]);
                }
                *squares = squared_norm(isa, sum);
            });
        let norm = self.squares.iter().sum::<f64>().sqrt();
        if !norm.is_finite() {
            return norm;
        }
        self.updates += 1;
        let clip = f64::from(t.clip_norm);
        let settings = AdamSettings {
            learning_rate,
            beta1: t.beta1,
            beta2: t.beta2,
            eps: t.eps,
            weight_decay: if t.optimizer == OptimizerKind::Adamw {
                t.weight_decay
            } else {
                0.0
            },
            step: self.updates,
            gradient_scale: if clip > 0.0 && norm > clip {
                (clip / norm) as f32
            } else {
                1.0
            },
        };
        let moments = self
            .first
            .par_chunks_mut(CHUNK)
            .zip(self.second.par_chunks_mut(CHUNK));
        let chunks = weights
            .par_chunks_mut(CHUNK)
            .zip(moments)
            .zip(sum.data.par_chunks(CHUNK));
        let adam = |weights: &mut [f32], (first, second), gradient: &[f32]| {
            adam(isa, weights, first, second, gradient, settings);
        };
        // A young average follows faster, so that it does not remember the random start.
        let young = (1.0 + self.updates as f32) / (10.0 + self.updates as f32);
        let decay = t.ema_decay.min(young);
        match &mut self.average {
            None => chunks.for_each(|((weights, moments), gradient)| {
                adam(weights, moments, gradient);
            }),
            Some(average) => chunks.zip(average.par_chunks_mut(CHUNK)).for_each(
                |(((weights, moments), gradient), average)| {
                    adam(weights, moments, gradient);
                    blend(isa, average, weights, decay);
                },
            ),
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_clipped() {
        let t = TrainingTable {
            clip_norm: 0.0,
            ..TrainingTable::default()
        };
        let mut weights = Buffer::zeros(100_000);
        let mut optimizer = Optimizer::new(&t, &weights);
        let mut gradients = [3.0, 1.0].map(|value| {
            let mut gradients = Gradients::zeros(100_000);
            gradients.data.fill(value);
            gradients
        });
        let norm = optimizer.update(&t, 0.1, &mut weights, &mut gradients);
        assert!((norm - 4.0 * 100_000f64.sqrt()).abs() < 1e-6);
        // The first step of Adam has the length of the learning rate.
        assert!(weights.iter().all(|w| (w + 0.1).abs() < 1e-6));
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let t = TrainingTable {
            ema_decay: 0.9,
            ..TrainingTable::default()
        };
        let mut weights = Buffer::zeros(10);
        let mut optimizer = Optimizer::new(&t, &weights);
        let before = optimizer.clone();
        let mut gradients = Gradients::zeros(10);
        gradients.data[7] = f32::NAN;
        let norm = optimizer.update(&t, 0.1, &mut weights, &mut [gradients]);
        assert!(!norm.is_finite());
        assert!(weights.iter().all(|w| *w == 0.0));
        let memory = |o: &Optimizer| (o.first.clone(), o.second.clone(), o.average.clone());
        assert_eq!(memory(&optimizer), memory(&before));
        assert_eq!(optimizer.updates, before.updates);
    }
}
