//! One training step: a fixed number of shards, each with its own tape and gradients, on any number of threads.

use rayon::prelude::*;

use crate::batch::TrainingRows;
use crate::config::{Precision, TrainingTable};
use crate::error::Result;
use crate::fastest;
use crate::model::transformer::Transformer;
use crate::ops::cross_entropy::LossOptions;
use crate::ops::{DropoutKey, Gradients, PackedTable, Run};
use crate::tensor::Arena;
use crate::train::optimizer::Optimizer;
use crate::weights::Weights;

/// What training changes at each step.
#[derive(Debug)]
pub struct TrainStep {
    /// The model's shape.
    pub model: Transformer,
    /// The model's numbers.
    pub weights: Weights,
    /// The optimizer's memory.
    pub optimizer: Optimizer,
    precision: Precision,
    packed: PackedTable,
    gradients: Vec<Gradients>,
    shards: Vec<Shard>,
}

/// What a shard keeps besides its gradients.
#[derive(Debug, Default)]
struct Shard {
    arena: Arena,
    /// Sums over the last step's target tokens: label-smoothed loss, −ln p.
    losses: (f64, f64),
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepReport {
    /// What is minimised, for each target token: label-smoothed cross-entropy, with R-Drop its term too.
    pub loss: f64,
    /// −ln p for each target token.
    pub negative_log_likelihood: f64,
    /// Target tokens, end tokens included.
    pub target_tokens: usize,
    /// Source tokens, end tokens included.
    pub source_tokens: usize,
    /// Norm of the gradient before clipping; not finite if the update was skipped.
    pub gradient_norm: f64,
}

impl TrainStep {
    /// Starts from `weights`, with products in the precision of `t`.
    pub fn new(model: Transformer, weights: Weights, t: &TrainingTable) -> Self {
        let precision = fastest::decided(t.precision);
        TrainStep {
            precision,
            packed: model.pack_output(&weights, precision),
            optimizer: Optimizer::new(t, &weights),
            gradients: (0..t.shards)
                .map(|_| Gradients::zeros(weights.data.len()))
                .collect(),
            shards: (0..t.shards).map(|_| Shard::default()).collect(),
            model,
            weights,
        }
    }

    /// One update. `parts` holds for each accumulated batch its shards' pairs, [`TrainingTable::passes`] times each;
    /// `number` is the step's, and keys dropout.
    ///
    /// # Errors
    /// An id or a length out of range: nothing is updated then.
    pub fn run(
        &mut self,
        t: &TrainingTable,
        number: u64,
        learning_rate: f32,
        parts: &[Vec<TrainingRows>],
    ) -> Result<StepReport> {
        let all = || parts.iter().flatten();
        all().try_for_each(|rows| self.model.check(rows))?;
        let rows: usize = all().map(|p| p.labels.len()).sum();
        let options = LossOptions {
            label_smoothing: t.label_smoothing,
            scale: 1.0 / rows.max(1) as f32,
            r_drop: t.r_drop,
        };
        let TrainStep {
            model,
            weights,
            precision,
            packed,
            gradients,
            shards,
            ..
        } = self;
        let of_shards = shards.par_iter_mut().zip(gradients.par_iter_mut());
        of_shards.enumerate().for_each(|(s, (shard, gradients))| {
            shard.losses = (0.0, 0.0);
            gradients.data.fill(0.0);
            for (part, pairs) in parts.iter().enumerate() {
                let Some(pairs) = pairs.get(s).filter(|p| !p.labels.is_empty()) else {
                    continue;
                };
                let dropped = DropoutKey::new(t.seed, number, s as u64, part as u64);
                let mut run = Run::training(&shard.arena, weights, packed, gradients, dropped)
                    .with_precision(*precision);
                for row in model.loss(&mut run, pairs, options).iter() {
                    shard.losses.0 += f64::from(row.smoothed);
                    shard.losses.1 += f64::from(row.negative_log_likelihood);
                }
                run.backward();
            }
        });
        let gradient_norm = self.optimizer.update(
            t,
            learning_rate,
            &mut self.weights.data,
            &mut self.gradients,
        );
        self.packed.repack(&self.weights);
        let (n, passes) = (rows.max(1) as f64, t.passes());
        Ok(StepReport {
            loss: self.shards.iter().map(|s| s.losses.0).sum::<f64>() / n,
            negative_log_likelihood: self.shards.iter().map(|s| s.losses.1).sum::<f64>() / n,
            target_tokens: rows / passes,
            source_tokens: all().map(|p| p.source.len()).sum::<usize>() / passes,
            gradient_norm,
        })
    }

    /// The gradient of the last step, summed over the shards and not clipped, laid out as the parameters are.
    pub fn gradient(&self) -> &[f32] {
        self.gradients.first().map_or(&[], |g| &g.data)
    }

    /// Takes other weights, as after loading a checkpoint.
    pub fn set_weights(&mut self, weights: Weights) {
        self.weights = weights;
        self.packed.repack(&self.weights);
    }
}
