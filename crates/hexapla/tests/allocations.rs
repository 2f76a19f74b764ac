//! A training step allocates nothing once its shapes have been seen: an allocator that counts watches all threads.
//!
//! The step is [`TrainStep::run`]: forward, loss, backward, sum over the shards, norm, clipping, Adam, packing of the
//! output layer. What an engine computes for whole sentences comes out of buffers of earlier calls, too. There is one test
//! here alone, so that no other one allocates meanwhile.

use std::alloc::System;

use hexapla::batch::{Pair, TrainingRows};
use hexapla::config::{
    ComputeType, Norm, OptimizerKind, Positions, Precision, TrainingTable, TransformerConfig,
};
use hexapla::generate::engine::Engine;
use hexapla::model::transformer::Transformer;
use hexapla::packed::PackedWeights;
use hexapla::random::SplitMix;
use hexapla::train::shards::TrainStep;
use hexapla::weights::Weights;
use hexapla_kernels::{Isa, Matrix, MatrixMut, Plus, gemm, gemm_bf16};
use rayon::ThreadPoolBuilder;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VOCABULARY: usize = 90;

/// One kind of training.
#[derive(Debug, Clone, Copy)]
struct Case {
    norm: Norm,
    positions: Positions,
    precision: Precision,
    shards: usize,
    accumulate: usize,
    ema_decay: f32,
    clip_norm: f32,
    optimizer: OptimizerKind,
}

const PLAIN: Case = Case {
    norm: Norm::Post,
    positions: Positions::SinusoidalHalves,
    precision: Precision::Float32,
    shards: 2,
    accumulate: 1,
    ema_decay: 0.0,
    clip_norm: 0.0,
    optimizer: OptimizerKind::Adam,
};

impl Case {
    fn train_step(self) -> (TrainStep, TrainingTable) {
        let mut c = TransformerConfig::preset("tiny").unwrap();
        (c.source_vocab_size, c.target_vocab_size) = (VOCABULARY, VOCABULARY);
        (c.d_model, c.encoder_layers, c.decoder_layers) = (64, 2, 2);
        (c.norm, c.final_norm) = (self.norm, self.norm == Norm::Pre);
        c.positions = self.positions;
        (c.dropout, c.attention_dropout, c.activation_dropout) = (0.1, 0.1, 0.1);
        let model = Transformer::new(c).unwrap();
        let weights = Weights::random(model.index().clone(), 3);
        let t = TrainingTable {
            precision: self.precision,
            shards: self.shards,
            ema_decay: self.ema_decay,
            clip_norm: self.clip_norm,
            optimizer: self.optimizer,
            ..TrainingTable::default()
        };
        (TrainStep::new(model, weights, &t), t)
    }

    /// Batches of many shapes: from one short sentence, which leaves shards empty, to many long ones.
    fn batches(self) -> Vec<Vec<Vec<TrainingRows>>> {
        let mut random = SplitMix(9);
        let mut batch = |sentences: usize, longest: usize| {
            let mut parts = vec![TrainingRows::default(); self.shards];
            for s in 0..sentences {
                let mut ids = || -> Vec<u32> {
                    let length = 1 + random.below(longest);
                    (0..length)
                        .map(|_| 3 + random.below(VOCABULARY - 3) as u32)
                        .collect()
                };
                parts[s % self.shards].push(&ids(), &ids(), 0, 2);
            }
            parts
        };
        let shapes = [(8, 12), (1, 5), (40, 6), (3, 60), (17, 20), (60, 30)];
        shapes
            .iter()
            .map(|(sentences, longest)| {
                (0..self.accumulate)
                    .map(|_| batch(*sentences, *longest))
                    .collect()
            })
            .collect()
    }
}

/// Gives each thread of this pool its packing buffers of products at their full size, which no product exceeds: which
/// thread would meet which shape first is chance.
fn fill_scratch() {
    // A whole block of A, then one of B.
    for (m, n, k) in [(256, 96, 512), (16, 768, 512)] {
        rayon::broadcast(|_| {
            let (a, b, mut c) = (vec![1.0; k * m], vec![1.0; k * n], vec![0.0; m * n]);
            for product in [gemm, gemm_bf16] {
                let a = Matrix::new(&a, k, m, m).transposed();
                let b = Matrix::new(&b, k, n, n);
                let c = MatrixMut::new(&mut c, m, n, n);
                product(Isa::best(), c, a, b, Plus::Nothing);
            }
        });
    }
}

/// Allocations, with those that let something grow, and their bytes, on all threads while `work` is done.
fn count(work: impl FnOnce()) -> (usize, usize) {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    (
        change.allocations + change.reallocations,
        change.bytes_allocated,
    )
}

/// Trains on the batches in turn, `rounds` times.
fn train(
    train_step: &mut TrainStep,
    t: &TrainingTable,
    batches: &[Vec<Vec<TrainingRows>>],
    rounds: usize,
) {
    for batch in std::iter::repeat_n(batches, rounds).flatten() {
        let number = train_step.optimizer.updates + 1;
        let report = train_step.run(t, number, 1e-3, batch).unwrap();
        assert!(report.loss.is_finite() && report.gradient_norm > 0.0);
    }
}

/// What `rounds` on the batches allocate.
///
/// How many matrices Muon has at work at once, and how many sums of more than two shards, is chance on several threads, and
/// so is how many buffers they have. These are not more than there are threads: once they were, nothing more is allocated.
fn settled(
    case: Case,
    train_step: &mut TrainStep,
    t: &TrainingTable,
    batches: &[Vec<Vec<TrainingRows>>],
    rounds: usize,
) -> (usize, usize) {
    let shared = case.optimizer == OptimizerKind::Muon || case.shards > 2;
    let by_chance = shared && rayon::current_num_threads() > 1;
    let tries = if by_chance { 10 } else { 1 };
    let counts = (0..tries).map(|_| count(|| train(train_step, t, batches, rounds)));
    counts.min().unwrap_or_default()
}

/// With one shape, the first step makes all that later ones need.
fn one_shape(case: Case) -> (usize, usize) {
    let (mut train_step, t) = case.train_step();
    let batches = &case.batches()[5..];
    let first = count(|| train(&mut train_step, &t, batches, 1));
    assert!(first.0 > 100, "nothing is counted: {first:?}");
    settled(case, &mut train_step, &t, batches, 3)
}

/// With many shapes, the first pass over them does, but for a few buffers that were lent to smaller matrices when a matrix
/// of their own size was asked for; these are made up for in the next two.
fn many_shapes(case: Case, rounds: usize) -> (usize, usize) {
    let (mut train_step, t) = case.train_step();
    let batches = case.batches();
    train(&mut train_step, &t, &batches, 3);
    settled(case, &mut train_step, &t, &batches, rounds)
}

#[test]
fn buffers_are_used_again() {
    steps_allocate_nothing();
    an_engine_keeps_its_arena();
}

fn steps_allocate_nothing() {
    let cases = [
        PLAIN,
        Case {
            precision: Precision::Bf16,
            clip_norm: 0.01,
            ..PLAIN
        },
        Case {
            norm: Norm::Pre,
            positions: Positions::Learned,
            accumulate: 2,
            ema_decay: 0.9,
            ..PLAIN
        },
        Case { shards: 5, ..PLAIN },
        Case {
            optimizer: OptimizerKind::Muon,
            ..PLAIN
        },
    ];
    for threads in [1, 2] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            fill_scratch();
            for case in cases {
                let counted = (one_shape(case), many_shapes(case, 2));
                assert_eq!(counted, ((0, 0), (0, 0)), "{threads} threads, {case:?}");
            }
        });
    }
    // Whoever is not a thread of rayon's, as the training loop, hands his work to them through a queue: it takes a block of
    // 63 entries at a time. A step hands over three times: the shards, the sum of their gradients, the update.
    let rounds = 11;
    fill_scratch();
    let (allocations, bytes) = many_shapes(PLAIN, rounds);
    let blocks = (3 * rounds * PLAIN.batches().len()).div_ceil(63);
    assert!(
        allocations <= blocks && bytes <= blocks * 2048,
        "{allocations} allocations of {bytes} bytes, at most {blocks} expected"
    );
}

/// A second call asks for its results and lists of sentences, and for no more matrices.
fn an_engine_keeps_its_arena() {
    let (train_step, _) = PLAIN.train_step();
    let parameters = PackedWeights::new(&train_step.weights, ComputeType::Float32);
    let engine = Engine::new(train_step.model, parameters);
    let sentence = |i: u32| -> Vec<u32> { (3..8 + i % 20).collect() };
    let sides: Vec<(Vec<u32>, Vec<u32>)> =
        (0..100).map(|i| (sentence(i), sentence(i + 7))).collect();
    let pairs: Vec<Pair> = sides
        .iter()
        .cloned()
        .map(|(source, target)| Pair { source, target })
        .collect();
    let (source, target): (Vec<_>, Vec<_>) = sides.iter().cloned().unzip();
    let calls: [(&str, &(dyn Fn() + Sync)); 3] = [
        ("score", &|| drop(engine.score(&sides, 500).unwrap())),
        ("loss", &|| assert!(engine.loss(&pairs, 0.1).unwrap().2 > 0)),
        ("logits", &|| drop(engine.logits(&source, &target).unwrap())),
    ];
    let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        fill_scratch();
        let tokens = target.iter().flatten().count();
        for (name, call) in calls {
            call();
            let (_, bytes) = count(call);
            let result = if name == "logits" { VOCABULARY * 4 } else { 4 };
            // The matrices of a batch take thousands of bytes for each token.
            let most = tokens * (64 + result);
            assert!(bytes < most, "{name}: {bytes} bytes, at most {most}");
        }
    });
}
