//! Times a training step: `cargo run --release -p hexapla --example step --
//! tiny|small|base [threads] [steps] [dropout] [float32|bf16]`.
use hexapla::batch::PairRows;
use hexapla::config::{TrainingTable, TransformerConfig};
use hexapla::model::transformer::Transformer;
use hexapla::random::SplitMix;
use hexapla::train::shards::TrainStep;
use hexapla::weights::Weights;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: f32| {
        arguments
            .get(i)
            .and_then(|a| a.parse().ok())
            .unwrap_or(default)
    };
    let name = arguments.get(1).map_or("tiny", String::as_str);
    let (vocab, sentences, length) = match name {
        "tiny" => (10_000, 128, 16),
        "small" => (8_000, 128, 16),
        _ => (32_000, 64, 24),
    };
    let mut config = TransformerConfig::preset(name)?;
    (config.source_vocab_size, config.target_vocab_size) = (vocab, vocab);
    let p = number(4, 0.1);
    (
        config.dropout,
        config.attention_dropout,
        config.activation_dropout,
    ) = (p, p, p);
    let model = Transformer::new(config)?;
    let weights = Weights::random(model.index().clone(), 1);
    let t = TrainingTable {
        clip_norm: 0.0,
        precision: arguments.get(5).map_or("float32", String::as_str).parse()?,
        ..TrainingTable::default()
    };
    let mut train_step = TrainStep::new(model, weights, &t);
    let mut random = SplitMix(1);
    let mut parts = vec![PairRows::default(); t.shards];
    for s in 0..sentences {
        let mut ids = || {
            (1..length)
                .map(|_| random.below(vocab) as u32)
                .collect::<Vec<_>>()
        };
        let shards = parts.len();
        parts[s % shards].push(&ids(), &ids(), 0, 0);
    }
    let threads = number(2, 2.0) as usize;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    let mut times = Vec::new();
    let mut loss = 0.0;
    pool.install(|| {
        for step in 0..2 + number(3, 7.0) as u64 {
            let start = Instant::now();
            loss = train_step
                .run(&t, step, 1e-4, &[parts.clone()])
                .unwrap()
                .loss;
            times.push(start.elapsed().as_secs_f64());
        }
    });
    let mut times = times.split_off(2);
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{name}: {:.0} target tokens/s, step {:.1} ms, loss {loss:.3}",
        (sentences * length) as f64 / median,
        median * 1e3
    );
    Ok(())
}
