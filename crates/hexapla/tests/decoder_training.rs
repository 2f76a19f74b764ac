//! Training of decoders alone: the gradients of every family's folders, and what a training writes.

use std::fs;
use std::path::{Path, PathBuf};

use hexapla::batch::TrainingRows;
use hexapla::config::{
    Activation, ComputeType, DecoderConfig, ModelTable, NormKind, Precision, TrainingTable,
};
use hexapla::formats::generation::GenerationDefaults;
use hexapla::formats::manifest::ManifestFields;
use hexapla::formats::{self, Family, SaveModel};
use hexapla::generate::generator::Generator;
use hexapla::model::transformer::Transformer;
use hexapla::ops::cross_entropy::LossOptions;
use hexapla::ops::{DropoutKey, Gradients, Run};
use hexapla::packed::PackedWeights;
use hexapla::tensor::Arena;
use hexapla::train::initial;
use hexapla::train::shards::TrainStep;
use hexapla::weights::Weights;

fn folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders");
    let folders = fs::read_dir(golden).unwrap().map(|e| e.unwrap().path());
    folders.collect()
}

fn rows(vocab_size: usize) -> TrainingRows {
    let mut rows = TrainingRows::default();
    for (start, len) in [(3, 12), (7, 2), (11, 9)] {
        let ids: Vec<u32> = (0..len)
            .map(|i| (start + i * i * 5 + i) % vocab_size as u32)
            .collect();
        rows.push_text(&ids);
    }
    rows
}

const OPTIONS: LossOptions = LossOptions {
    label_smoothing: 0.1,
    scale: 1.0,
    r_drop: 0.0,
};

/// The summed loss, and the gradient.
fn loss_and_gradient(
    model: &Transformer,
    weights: &Weights,
    rows: &TrainingRows,
) -> (f64, Vec<f32>) {
    let mut gradients = Gradients::zeros(weights.data.len());
    let packed = model.pack_output(weights, Precision::Float32);
    let arena = Arena::default();
    let key = DropoutKey::new(1, 1, 0, 0);
    let mut run = Run::training(&arena, weights, &packed, &mut gradients, key);
    let losses = model.loss(&mut run, rows, OPTIONS);
    let loss = losses.iter().map(|row| f64::from(row.smoothed)).sum();
    drop(losses);
    run.backward();
    (loss, gradients.data.to_vec())
}

/// The loss itself is compared with transformers' by its logits (`decoder_reference.rs`).
#[test]
fn gradients_of_every_family_are_slopes_of_the_loss() {
    let mut checked = 0;
    for folder in folders() {
        let opened = formats::open(folder.as_path()).unwrap();
        // Without dropout the loss is a function of the weights alone.
        let config = DecoderConfig {
            dropout: 0.0,
            attention_dropout: 0.0,
            ..opened.decoder().unwrap().clone()
        };
        let model = Transformer::new(config.clone()).unwrap();
        let weights = opened.weights().unwrap();
        let rows = rows(config.vocab_size);
        let (_, gradient) = loss_and_gradient(&model, &weights, &rows);
        for p in model.index().iter() {
            // Along the gradient itself the loss rises the most: by its length for each step of length one.
            let slope: f64 = gradient[p.range.clone()]
                .iter()
                .map(|g| f64::from(g * g))
                .sum::<f64>()
                .sqrt();
            if slope < 1e-3 {
                // A key's bias changes no probability where keys are not normed or turned.
                assert!(
                    p.name.ends_with("key.bias"),
                    "{}: {} {slope}",
                    folder.display(),
                    p.name
                );
                continue;
            }
            let size: f64 = weights.data[p.range.clone()]
                .iter()
                .map(|w| f64::from(w * w))
                .sum::<f64>()
                .sqrt();
            let moved = |by: f64| {
                let mut moved = weights.clone();
                let along = moved.data[p.range.clone()].iter_mut();
                for (w, g) in along.zip(&gradient[p.range.clone()]) {
                    *w += (by * f64::from(*g) / slope) as f32;
                }
                loss_and_gradient(&model, &moved, &rows).0
            };
            // Two differences, whose errors of the second order cancel. Small steps are rounded away, large ones are no slope: of
            // several one is near.
            let found = [0.02, 0.01, 0.005, 0.0025, 0.00125].map(|share| {
                let step = share * size.max(0.1);
                let [near, far] = [step, 2.0 * step].map(|h| (moved(h) - moved(-h)) / (2.0 * h));
                (4.0 * near - far) / 3.0
            });
            assert!(
                found
                    .iter()
                    .any(|found| (found - slope).abs() < 0.01 * slope + 0.003),
                "{}: {} {found:?} {slope}",
                folder.display(),
                p.name
            );
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked}");
}

/// Settings that no published family has together: our own folder says them all.
#[test]
fn what_no_family_can_say_is_our_own_folder() {
    let table = ModelTable {
        d_model: Some(24),
        layers: Some(2),
        heads: Some(4),
        kv_heads: Some(2),
        head_width: Some(8),
        feed_forward: Some(40),
        max_position_embeddings: Some(20),
        activation: Some(Activation::ReluSquared),
        query_key_norm: Some(true),
        tie_output: Some(false),
        dropout: Some(0.0),
        ..ModelTable::default()
    };
    for (table, family) in [
        (table.clone(), Family::Native),
        (
            ModelTable {
                rotary: Some(true),
                bias: Some(false),
                ..table.clone()
            },
            Family::Native,
        ),
        (
            ModelTable {
                rotary: Some(true),
                bias: Some(false),
                norm_kind: Some(NormKind::Rms),
                gated: Some(true),
                ..table.clone()
            },
            Family::Qwen3,
        ),
        (
            ModelTable {
                query_key_norm: None,
                kv_heads: None,
                head_width: None,
                ..table
            },
            Family::Gpt2,
        ),
    ] {
        let config = DecoderConfig {
            vocab_size: 31,
            bos_token_id: Some(2),
            eos_token_ids: vec![2, 5],
            ..table.resolve_decoder().unwrap()
        };
        let model = Transformer::new(config.clone()).unwrap();
        let t = TrainingTable::default();
        let weights = initial::weights(model.index().clone(), 4, t.initial_weights);
        let mut train = TrainStep::new(model.clone(), weights, &t);
        let parts = [vec![rows(31), rows(31)]];
        let first = train.run(&t, 1, 0.01, &parts).unwrap();
        let second = train.run(&t, 2, 0.01, &parts).unwrap();
        assert!(second.loss < first.loss, "{family}: {first:?} {second:?}");
        let folder = tempfile::tempdir().unwrap();
        let saved = formats::save(
            folder.path(),
            &SaveModel {
                assembly: &config.clone().into(),
                family: None,
                weights: &train.weights,
                generation: &GenerationDefaults::default(),
                files: Default::default(),
                manifest: ManifestFields::default(),
            },
        )
        .unwrap();
        assert_eq!(saved.family, family);
        assert_eq!(saved.note.is_some(), family == Family::Native);
        let opened = formats::open(folder.path()).unwrap();
        let read = opened.decoder().unwrap();
        assert_eq!(read.model(), config.model());
        assert_eq!(read.eos_token_ids, config.eos_token_ids);
        let texts = vec![vec![3, 7, 30, 1], vec![9]];
        let own = PackedWeights::new(&train.weights, ComputeType::Float32);
        let own = Generator::new(model, own).logits(&texts).unwrap();
        let read = Generator::open(folder.path(), ComputeType::Float32).unwrap();
        assert_eq!(own, read.logits(&texts).unwrap());
    }
}
