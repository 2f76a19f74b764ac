//! A result depends on its sentence alone; a training on its seed alone.

use hexapla::batch::Pair;
use hexapla::config::{ComputeType, OptimizerKind, TrainingTable, TransformerConfig};
use hexapla::error::Result;
use hexapla::generate::engine::{Engine, Request};
use hexapla::generate::{Hypothesis, SearchOptions};
use hexapla::model::transformer::Transformer;
use hexapla::packed::PackedWeights;
use hexapla::random::SplitMix;
use hexapla::train::evaluation::Evaluation;
use hexapla::train::pairs::{Marks, TrainingPairs};
use hexapla::train::progress::Progress;
use hexapla::train::shards::StepReport;
use hexapla::train::trainer::{Trainer, Watcher};
use hexapla::weights::Weights;

fn model(d_model: usize, layers: usize, vocab: usize) -> Transformer {
    let mut c = TransformerConfig::preset("tiny").unwrap();
    (c.source_vocab_size, c.target_vocab_size, c.d_model) = (vocab, vocab, d_model);
    (c.encoder_layers, c.decoder_layers) = (layers, layers);
    (c.dropout, c.attention_dropout, c.activation_dropout) = (0.2, 0.1, 0.1);
    (c.pad_token_id, c.eos_token_id, c.decoder_start_token_id) = (1, 2, 0);
    Transformer::new(c).unwrap()
}

fn in_pool<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(f)
}

#[test]
fn a_sentence_is_translated_the_same_in_any_company() {
    let model = model(64, 2, 300);
    let weights = Weights::random(model.index().clone(), 4);
    let engine =
        |compute_type| Engine::new(model.clone(), PackedWeights::new(&weights, compute_type));
    let mut random = SplitMix(8);
    let requests: Vec<Request> = (0..1000)
        .map(|line| Request {
            source: (0..1 + random.below(40))
                .map(|_| 3 + random.below(297) as u32)
                .chain([2])
                .collect(),
            prefix: Vec::new(),
            max_length: 12,
            seed_index: line,
        })
        .collect();
    for (beam_size, compute_type) in [
        (1, ComputeType::Float32),
        (4, ComputeType::Float32),
        (4, ComputeType::Bf16),
        (4, ComputeType::Int8),
    ] {
        let engine = engine(compute_type);
        let options = SearchOptions {
            beam_size,
            ..SearchOptions::for_model(model.config())
        };
        let run = |threads, batch| -> Vec<Vec<Hypothesis>> {
            in_pool(threads, || {
                engine.generate(&requests, &options, batch).unwrap()
            })
        };
        let alone = run(1, 1);
        for (threads, batch) in [(1, 700), (2, 700), (3, 5000)] {
            assert!(
                alone == run(threads, batch),
                "{compute_type:?}, beam {beam_size}, {threads} threads, batches of {batch}"
            );
        }
    }
    let pairs: Vec<_> = requests
        .iter()
        .map(|r| (r.source.clone(), r.source[1..].to_vec()))
        .collect();
    let engine = engine(ComputeType::Float32);
    let alone = in_pool(1, || engine.score(&pairs, 1).unwrap());
    assert!(alone == in_pool(2, || engine.score(&pairs, 900).unwrap()));
}

struct Losses(Vec<u64>);

impl Watcher for Losses {
    fn step(&mut self, _: &Progress, report: &StepReport, _: f32) {
        self.0.push(report.loss.to_bits());
    }
}

/// Those of `model`.
const MARKS: Marks = Marks { start: 0, end: 2 };

fn pairs() -> Vec<Pair> {
    let mut random = SplitMix(5);
    let mut ids = |_| {
        (0..1 + random.below(12))
            .map(|_| 3 + random.below(47) as u32)
            .collect::<Vec<_>>()
    };
    (0..300)
        .map(|i| Pair {
            source: ids(i),
            target: ids(i),
        })
        .collect()
}

fn settings(max_steps: usize) -> TrainingTable {
    TrainingTable {
        max_steps,
        batch_tokens: 150,
        warmup_steps: 10,
        save_every: 7,
        valid_every: 1000,
        accumulate: 2,
        ema_decay: 0.9,
        ..TrainingTable::default()
    }
}

fn train(
    optimizer: OptimizerKind,
    folder: &std::path::Path,
    threads: usize,
    stop: usize,
) -> (Vec<u64>, Weights) {
    let t = TrainingTable {
        optimizer,
        ..settings(stop)
    };
    let mut trainer = Trainer::open(folder, t, model(32, 1, 50)).unwrap();
    let mut losses = Losses(Vec::new());
    let mut none = |_: &Transformer, _: &Weights| -> Result<Option<Evaluation>> {
        unreachable!("no validation is due")
    };
    in_pool(threads, || {
        trainer
            .run(
                &TrainingPairs::fixed(&pairs(), MARKS),
                &mut none,
                &mut losses,
            )
            .map(|_| ())
    })
    .unwrap();
    (losses.0, trainer.train_step().weights.clone())
}

#[test]
fn a_training_is_the_same_on_any_number_of_threads_and_after_interruptions() {
    const STEPS: usize = 30;
    let folder = || tempfile::tempdir().unwrap();
    for (optimizer, interruptions) in [(OptimizerKind::Adam, 20), (OptimizerKind::Muon, 5)] {
        let (losses, weights) = train(optimizer, folder().path(), 1, STEPS);
        assert_eq!(losses.len(), STEPS);
        let (on_two, weights_on_two) = train(optimizer, folder().path(), 2, STEPS);
        let same = losses == on_two && weights == weights_on_two;
        assert!(same, "{optimizer:?} on two threads");
        let mut random = SplitMix(1);
        for _ in 0..interruptions {
            // The last checkpoint is that of step 7, 14, 21 or 28, or the clean end of the first part.
            let dir = folder();
            let stop = 1 + random.below(STEPS - 1);
            let (first, _) = train(optimizer, dir.path(), 2, stop);
            let (second, resumed) = train(optimizer, dir.path(), 1, STEPS);
            let same = losses == [first, second].concat() && weights == resumed;
            assert!(same, "{optimizer:?} stopped after {stop}");
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_stops_the_run_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let t = TrainingTable {
        max_skipped_steps: 3,
        learning_rate: 1e30,
        warmup_steps: 0,
        ..settings(50)
    };
    let mut trainer = Trainer::open(dir.path(), t, model(32, 1, 50)).unwrap();
    let mut none = |_: &Transformer, _: &Weights| -> Result<Option<Evaluation>> {
        unreachable!("no validation is due")
    };
    let mut losses = Losses(Vec::new());
    let error = trainer
        .run(
            &TrainingPairs::fixed(&pairs(), MARKS),
            &mut none,
            &mut losses,
        )
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not finite")
            && error.contains("found: 3")
            && error.contains("learning_rate"),
        "{error}"
    );
    assert_eq!(trainer.progress().skipped, 3);
}

/// Whoever calls the library may have other ids than the model: an error, and never a panic.
#[test]
fn ids_that_the_model_has_no_row_for_are_errors() {
    let model = model(32, 1, 50);
    let weights = Weights::random(model.index().clone(), 4);
    let good = || Pair {
        source: vec![3, 4],
        target: vec![5],
    };
    let most = model.config().max_position_embeddings;
    let long = vec![3; most + 5];
    let bad = [
        Pair {
            source: vec![3, 50],
            ..good()
        },
        Pair {
            target: vec![u32::MAX],
            ..good()
        },
    ];
    for compute_type in [ComputeType::Float32, ComputeType::Int8] {
        let engine = Engine::new(model.clone(), PackedWeights::new(&weights, compute_type));
        for pair in &bad {
            let e = engine.loss(&[good(), pair.clone()], 0.1).unwrap_err();
            assert_eq!(e.item(), Some(1), "{e}");
            let ids = (pair.source.clone(), pair.target.clone());
            assert!(engine.score(std::slice::from_ref(&ids), 64).is_err());
            assert!(engine.predict(std::slice::from_ref(&ids), 64).is_err());
            assert!(engine.logits(&[ids.0], &[ids.1]).is_err());
        }
        let empty = Pair {
            source: Vec::new(),
            target: Vec::new(),
        };
        assert!(engine.loss(&[empty], 0.1).is_ok());
    }
    let too_long = Pair {
        source: long,
        ..good()
    };
    for pair in bad.into_iter().chain([too_long]) {
        let dir = tempfile::tempdir().unwrap();
        let mut trainer = Trainer::open(dir.path(), settings(3), model.clone()).unwrap();
        let mut none = |_: &Transformer, _: &Weights| -> Result<Option<Evaluation>> { Ok(None) };
        let pairs = [good(), pair];
        let run = trainer.run(
            &TrainingPairs::fixed(&pairs, MARKS),
            &mut none,
            &mut Losses(Vec::new()),
        );
        assert!(run.is_err());
    }
}

/// A run that goes on with fewer pairs than it began with.
#[test]
fn a_run_with_other_pairs_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    train(OptimizerKind::Adam, dir.path(), 1, 8);
    let mut trainer = Trainer::open(dir.path(), settings(20), model(32, 1, 50)).unwrap();
    assert!(trainer.progress().batch > 0);
    let mut none = |_: &Transformer, _: &Weights| -> Result<Option<Evaluation>> { Ok(None) };
    let few = pairs()[..1].to_vec();
    let run = trainer.run(
        &TrainingPairs::fixed(&few, MARKS),
        &mut none,
        &mut Losses(Vec::new()),
    );
    let told = run.unwrap_err().to_string();
    assert!(
        told.contains("not what the training was started with"),
        "{told}"
    );
}
