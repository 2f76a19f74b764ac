//! Training with products in bf16 is training in f32 up to rounding.
//!
//! Rounding to bf16 changes a number by at most 2⁻⁹ of itself, a product of two random matrices by about 2⁻⁹ of its size.
//! Some thirty products stand between a weight and the loss (forward and backward); independent errors of that size
//! add up to about √30·2⁻⁹ ≈ 1 %. A gradient that is off by 1 % of its length has a cosine of 1 − 0.01²/2; the bound of 0.999
//! allows 4.5 %. The loss is a mean over tokens, near which errors cancel; it gets half a per cent.

use hexapla::batch::TrainingRows;
use hexapla::config::{Precision, TrainingTable, TransformerConfig};
use hexapla::model::transformer::Transformer;
use hexapla::random::SplitMix;
use hexapla::train::shards::TrainStep;
use hexapla::weights::Weights;

const VOCABULARY: usize = 40;

fn train_step(precision: Precision) -> (TrainStep, TrainingTable) {
    let mut c = TransformerConfig::preset("tiny").unwrap();
    (c.source_vocab_size, c.target_vocab_size) = (VOCABULARY, VOCABULARY);
    (c.d_model, c.encoder_layers, c.decoder_layers) = (64, 2, 2);
    c.dropout = 0.0;
    let model = Transformer::new(c).unwrap();
    let weights = Weights::random(model.index().clone(), 3);
    let t = TrainingTable {
        precision,
        ..TrainingTable::default()
    };
    (TrainStep::new(model, weights, &t), t)
}

/// Sentences whose target is the source's tokens, each one larger.
fn batch(random: &mut SplitMix, shards: usize) -> Vec<TrainingRows> {
    let mut parts = vec![TrainingRows::default(); shards];
    for s in 0..48 {
        let source: Vec<u32> = (0..2 + random.below(8))
            .map(|_| 3 + random.below(VOCABULARY - 4) as u32)
            .collect();
        let target: Vec<u32> = source.iter().map(|id| id + 1).collect();
        parts[s % shards].push(&source, &target, 0, 2);
    }
    parts
}

/// Losses of `steps` updates and the weights after them.
fn train(precision: Precision, threads: usize, steps: u64) -> (Vec<f64>, Weights) {
    let (mut train_step, t) = train_step(precision);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let mut random = SplitMix(9);
    let losses = pool.install(|| {
        (1..=steps)
            .map(|step| {
                let parts = [batch(&mut random, t.shards)];
                train_step.run(&t, step, 2e-3, &parts).unwrap().loss
            })
            .collect()
    });
    (losses, train_step.weights.clone())
}

#[test]
fn gradients_point_the_same_way() {
    let step = |precision| {
        let (mut train_step, t) = train_step(precision);
        let parts = [batch(&mut SplitMix(9), t.shards)];
        let loss = train_step.run(&t, 1, 0.0, &parts).unwrap().loss;
        (loss, train_step)
    };
    let (loss, exact) = step(Precision::Float32);
    let (rounded_loss, rounded) = step(Precision::Bf16);
    assert!(rounded_loss != loss, "nothing was rounded");
    let error = (rounded_loss / loss - 1.0).abs();
    assert!(error < 0.005, "{rounded_loss} {loss}");
    let mut compared = 0;
    for p in exact.model.index().iter().filter(|p| p.shape.len() == 2) {
        let pairs = || {
            let (a, b) = (exact.gradient(), rounded.gradient());
            a[p.range.clone()].iter().zip(&b[p.range.clone()])
        };
        let sum = |f: fn(f64, f64) -> f64| -> f64 {
            pairs().map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum()
        };
        let (product, a, b) = (sum(|a, b| a * b), sum(|a, _| a * a), sum(|_, b| b * b));
        let cosine = product / (a * b).sqrt();
        assert!(cosine > 0.999, "{}: {cosine}", p.name);
        compared += 1;
    }
    // One table, four matrices for each of six attentions, two for each of four feed-forward blocks.
    assert_eq!(compared, 1 + 6 * 4 + 4 * 2);
}

#[test]
fn the_loss_falls_as_in_f32() {
    let (exact, _) = train(Precision::Float32, 2, 60);
    let (rounded, _) = train(Precision::Bf16, 2, 60);
    // Before small differences have grown, each loss agrees; at the end, their mean.
    for (step, (a, b)) in exact.iter().zip(&rounded).take(5).enumerate() {
        assert!((b / a - 1.0).abs() < 0.005, "step {}: {a} {b}", step + 1);
    }
    let end = |losses: &[f64]| losses[50..].iter().sum::<f64>() / 10.0;
    let (a, b) = (end(&exact), end(&rounded));
    println!("after 60 steps: f32 {a}, bf16 {b}, from {}", exact[0]);
    assert!(a < 0.75 * exact[0], "f32 learns nothing: {exact:?}");
    assert!((b / a - 1.0).abs() < 0.02, "f32 {a}, bf16 {b}");
}

#[test]
fn threads_do_not_change_a_bit() {
    let (losses, weights) = train(Precision::Bf16, 1, 8);
    let (on_two, weights_on_two) = train(Precision::Bf16, 2, 8);
    assert!(losses == on_two && weights == weights_on_two);
}
