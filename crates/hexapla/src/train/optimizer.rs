//! Adam, AdamW and Muon over the flat run of parameters, and the moving average of the weights, in two passes over
//! memory: the shards' gradients are summed and their norm taken; then, when the norm is known, everything else is done
//! part by part. Zeros for the next step's gradients are written by each shard's own thread when it begins: as part of
//! these passes they would have to go to memory all the same (with 60 million parameters, 65 ms together either way).

use std::ops::Range;

use hexapla_kernels::{AdamSettings, Buffer, Isa, adam, add_assign, blend, squared_norm};
use rayon::prelude::*;

use crate::config::{OptimizerKind, TrainingTable};
use crate::ops::Gradients;
use crate::tensor::Arena;
use crate::train::muon::{Muon, Shape};
use crate::weights::{Kind, ParameterIndex, Weights};

/// Numbers handled at a time. The norm is summed chunk by chunk in order, whatever the number of threads.
const CHUNK: usize = 1 << 16;

/// The optimizer's memory.
#[derive(Debug, Clone)]
pub struct Optimizer {
    /// First moment; Muon's momentum.
    pub first: Buffer,
    /// Second moment; zeros where Muon has none.
    pub second: Buffer,
    /// Moving average of the weights, if one is kept.
    pub average: Option<Buffer>,
    /// Updates made.
    pub updates: u64,
    /// Those of them that were made when the moments began at zero.
    pub restarted: u64,
    /// The last gradient's sums of squares, chunk by chunk.
    squares: Vec<f64>,
    /// The flat run, end to end.
    parts: Vec<Part>,
    arena: Arena,
}

/// Neighbours in the flat run that are updated together; the next part begins where one ends.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: usize,
    /// The matrix that Muon takes as a whole; Adam takes all else.
    matrix: Option<Shape>,
}

impl Part {
    /// Every linear layer's weight as one part if Muon is to have it, and what lies between in chunks.
    fn all(index: &ParameterIndex, kind: OptimizerKind) -> Vec<Part> {
        let mut parts = Vec::new();
        let chunks = |range: Range<usize>| {
            let matrix = None;
            range
                .step_by(CHUNK)
                .map(move |start| Part { start, matrix })
        };
        let mut done = 0;
        for p in index.iter() {
            if kind == OptimizerKind::Muon && p.kind == Kind::Weight {
                parts.extend(chunks(done..p.range.start));
                parts.push(Part {
                    start: p.range.start,
                    matrix: Some(Shape {
                        rows: p.shape[0],
                        columns: p.shape[1],
                    }),
                });
                done = p.range.end;
            }
        }
        parts.extend(chunks(done..index.len()));
        parts
    }
}

/// A stretch of the flat run: what an update reads and writes.
struct FlatSlices<'a> {
    weights: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    average: Option<&'a mut [f32]>,
    gradient: &'a [f32],
}

impl<'a> FlatSlices<'a> {
    fn split_at(self, n: usize) -> (FlatSlices<'a>, FlatSlices<'a>) {
        let (weights, weights2) = self.weights.split_at_mut(n);
        let (first, first2) = self.first.split_at_mut(n);
        let (second, second2) = self.second.split_at_mut(n);
        let (average, average2) = self.average.map(|a| a.split_at_mut(n)).unzip();
        let (gradient, gradient2) = self.gradient.split_at(n);
        let left = FlatSlices {
            weights,
            first,
            second,
            average,
            gradient,
        };
        let right = FlatSlices {
            weights: weights2,
            first: first2,
            second: second2,
            average: average2,
            gradient: gradient2,
        };
        (left, right)
    }

    /// Does `work` with each of `parts`, which make up this stretch, on all threads.
    fn for_each(self, parts: &[Part], work: &(impl Fn(&Part, FlatSlices) + Sync)) {
        match parts {
            [] => {}
            [part] => work(part, self),
            _ => {
                let (left, right) = parts.split_at(parts.len() / 2);
                let (a, b) = self.split_at(right[0].start - left[0].start);
                rayon::join(|| a.for_each(left, work), || b.for_each(right, work));
            }
        }
    }
}

impl Optimizer {
    /// Nothing remembered; the moving average starts from `weights`.
    pub fn new(t: &TrainingTable, weights: &Weights) -> Self {
        let n = weights.data.len();
        Optimizer {
            first: Buffer::zeros(n),
            second: Buffer::zeros(n),
            average: (t.ema_decay > 0.0).then(|| weights.data.clone()),
            updates: 0,
            restarted: 0,
            squares: vec![0.0; n.div_ceil(CHUNK)],
            parts: Part::all(&weights.index, t.optimizer),
            arena: Arena::default(),
        }
    }

    /// Forgets all but the number of updates, with which the rate goes on, and lets the moving average start from `weights`.
    pub(super) fn restart(&mut self, weights: &Buffer, updates: u64) {
        self.first.fill(0.0);
        self.second.fill(0.0);
        if let Some(average) = &mut self.average {
            average.copy_from_slice(weights);
        }
        (self.updates, self.restarted) = (updates, updates);
    }

    /// Sums the shards' gradients into the first, as a binary tree, and updates `weights` with them unless they are not
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
        let arena = &self.arena;
        let chunks = sum.data.par_chunks_mut(CHUNK);
        chunks
            .zip(&mut self.squares)
            .enumerate()
            .for_each(|(i, (sum, squares))| {
                add_tree(isa, arena, sum, others, i * CHUNK);
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
            weight_decay: if t.optimizer == OptimizerKind::Adam {
                0.0
            } else {
                t.weight_decay
            },
            step: self.updates - self.restarted,
            gradient_scale: if clip > 0.0 && norm > clip {
                (clip / norm) as f32
            } else {
                1.0
            },
        };
        let muon = Muon {
            learning_rate,
            momentum: t.momentum,
            weight_decay: settings.weight_decay,
            gradient_scale: settings.gradient_scale,
        };
        // A young average follows faster, so that it does not remember the random start.
        let young = (1.0 + self.updates as f32) / (10.0 + self.updates as f32);
        let decay = t.ema_decay.min(young);
        let all = FlatSlices {
            weights,
            first: &mut self.first,
            second: &mut self.second,
            average: self.average.as_deref_mut(),
            gradient: &sum.data,
        };
        all.for_each(&self.parts, &|part, s| {
            match part.matrix {
                Some(shape) => muon.update(isa, arena, shape, s.weights, s.first, s.gradient),
                None => adam(isa, s.weights, s.first, s.second, s.gradient, settings),
            }
            if let Some(average) = s.average {
                blend(isa, average, s.weights, decay);
            }
        });
        norm
    }
}

/// Adds the numbers of `others` that begin at `start` to `sum`, those of the shard before them, as a binary tree over the
/// shards' numbers: each subtree holds a power of two of shards, the last what is left. A sum over machines that each hold
/// such a subtree is therefore the same, bit for bit: ((s0 + s1) + (s2 + s3)) is two sums of two.
fn add_tree(isa: Isa, arena: &Arena, sum: &mut [f32], others: &[Gradients], start: usize) {
    if others.is_empty() {
        return;
    }
    // The left subtree: the largest power of two that leaves something for the right.
    let left = (others.len() + 1).next_power_of_two() / 2;
    let (others, right) = others.split_at(left - 1);
    add_tree(isa, arena, sum, others, start);
    let (first, others) = (&right[0].data[start..][..sum.len()], &right[1..]);
    if others.is_empty() {
        add_assign(isa, sum, first);
    } else {
        let mut right = arena.tensor(1, sum.len());
        right.data_mut().copy_from_slice(first);
        add_tree(isa, arena, right.data_mut(), others, start);
        add_assign(isa, sum, right.data());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::random::SplitMix;

    use super::*;

    /// One table of `n` numbers.
    fn zeros(n: usize) -> Weights {
        let mut index = ParameterIndex::default();
        index.add("table", &[n, 1], Kind::Table(1.0));
        Weights::zeros(Arc::new(index))
    }

    #[test]
    fn shards_are_summed_and_clipped() {
        let t = TrainingTable {
            clip_norm: 0.0,
            ..TrainingTable::default()
        };
        let mut weights = zeros(100_000);
        let mut optimizer = Optimizer::new(&t, &weights);
        let mut gradients = [3.0, 1.0].map(|value| {
            let mut gradients = Gradients::zeros(100_000);
            gradients.data.fill(value);
            gradients
        });
        let norm = optimizer.update(&t, 0.1, &mut weights.data, &mut gradients);
        assert!((norm - 4.0 * 100_000f64.sqrt()).abs() < 1e-6);
        // The first step of Adam has the length of the learning rate.
        assert!(weights.data.iter().all(|w| (w + 0.1).abs() < 1e-6));
    }

    #[test]
    fn shards_are_summed_as_a_tree() {
        let mut random = SplitMix(5);
        let shards: Vec<Gradients> = (0..9)
            .map(|_| {
                let mut gradients = Gradients::zeros(100);
                gradients.data.fill_with(|| random.normal());
                gradients
            })
            .collect();
        let sum = |range: Range<usize>| {
            let mut sum = shards[range.start].data.to_vec();
            let others = &shards[range.start + 1..range.end];
            add_tree(Isa::best(), &Arena::default(), &mut sum, others, 0);
            sum
        };
        let add = |a: Vec<f32>, b: Vec<f32>| -> Vec<f32> {
            a.iter().zip(&b).map(|(a, b)| a + b).collect()
        };
        assert_eq!(sum(0..2), add(sum(0..1), sum(1..2)));
        assert_eq!(sum(0..3), add(sum(0..2), sum(2..3)));
        assert_eq!(sum(0..4), add(sum(0..2), sum(2..4)));
        assert_eq!(sum(0..7), add(sum(0..4), add(sum(4..6), sum(6..7))));
        // Two machines of four shards, four of two.
        assert_eq!(sum(0..8), add(sum(0..4), sum(4..8)));
        assert_eq!(sum(0..9), add(sum(0..8), sum(8..9)));
        // A part of the run is the part of the sum.
        let mut part = shards[0].data[30..40].to_vec();
        add_tree(Isa::best(), &Arena::default(), &mut part, &shards[1..7], 30);
        assert_eq!(part, sum(0..7)[30..40]);
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let t = TrainingTable {
            ema_decay: 0.9,
            ..TrainingTable::default()
        };
        let mut weights = zeros(10);
        let mut optimizer = Optimizer::new(&t, &weights);
        let before = optimizer.clone();
        let mut gradients = Gradients::zeros(10);
        gradients.data[7] = f32::NAN;
        let norm = optimizer.update(&t, 0.1, &mut weights.data, &mut [gradients]);
        assert!(!norm.is_finite());
        assert!(weights.data.iter().all(|w| *w == 0.0));
        let memory = |o: &Optimizer| (o.first.clone(), o.second.clone(), o.average.clone());
        assert_eq!(memory(&optimizer), memory(&before));
        assert_eq!(optimizer.updates, before.updates);
    }

    #[test]
    fn parts_cover_the_run_and_muon_has_the_linear_layers() {
        let mut index = ParameterIndex::default();
        index.add("embedding", &[700, 100], Kind::Table(1.0));
        index.add("query", &[30, 40], Kind::Weight);
        index.add("query.bias", &[40], Kind::Vector(0.0));
        index.add("inner", &[300, 400], Kind::Weight);
        let starts = |kind| {
            let start = |p: &Part| (p.start, p.matrix.map(|m| (m.rows, m.columns)));
            Part::all(&index, kind)
                .iter()
                .map(start)
                .collect::<Vec<_>>()
        };
        let muon = [
            (0, None),
            (65_536, None),
            (70_000, Some((30, 40))),
            (71_200, None),
            (71_240, Some((300, 400))),
        ];
        assert_eq!(starts(OptimizerKind::Muon), muon);
        let adam = [(0, None), (65_536, None), (131_072, None)];
        assert_eq!(starts(OptimizerKind::Adamw), adam);
    }
}
