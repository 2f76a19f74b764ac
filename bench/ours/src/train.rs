//! Training steps on given batches from given weights.

use std::path::PathBuf;
use std::time::Instant;

use hexapla::batch::TrainingRows;
use hexapla::config::{DecoderConfig, ModelTable, Precision, TrainingTable, TransformerConfig};
use hexapla::error::{Error, Result};
use hexapla::model::transformer::Transformer;
use hexapla::train::shards::TrainStep;
use hexapla::weights::Weights;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{protocol, weights};

/// What to train, the same file for every side.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    d_model: usize,
    heads: usize,
    feed_forward: usize,
    layers: usize,
    vocabulary: usize,
    #[serde(default)]
    decoder_alone: bool,
    /// On embeddings, sublayers, attention and inside the feed-forward block.
    dropout: f32,
    label_smoothing: f32,
    learning_rate: f32,
    precision: String,
    threads: usize,
    /// The initial weights, under our names.
    weights: PathBuf,
    /// A file of batches (see [`Sentences`]).
    batches: PathBuf,
}

/// A batch without padding: a row of ids for each sentence.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sentences {
    pub(crate) source: Vec<Vec<u32>>,
    /// What the decoder reads; one step behind `labels`.
    decoder_input: Vec<Vec<u32>>,
    pub(crate) labels: Vec<Vec<u32>>,
}

impl Job {
    fn model(&self) -> Result<Transformer> {
        if self.decoder_alone {
            let table = ModelTable {
                d_model: Some(self.d_model),
                layers: Some(self.layers),
                heads: Some(self.heads),
                feed_forward: Some(self.feed_forward),
                max_position_embeddings: Some(1024),
                dropout: Some(self.dropout),
                attention_dropout: Some(self.dropout),
                ..ModelTable::default()
            };
            return Transformer::new(DecoderConfig {
                vocab_size: self.vocabulary,
                ..table.resolve_decoder()?
            });
        }
        Transformer::new(TransformerConfig {
            source_vocab_size: self.vocabulary,
            target_vocab_size: self.vocabulary,
            d_model: self.d_model,
            encoder_layers: self.layers,
            decoder_layers: self.layers,
            encoder_heads: self.heads,
            decoder_heads: self.heads,
            encoder_feed_forward: self.feed_forward,
            decoder_feed_forward: self.feed_forward,
            dropout: self.dropout,
            attention_dropout: self.dropout,
            activation_dropout: self.dropout,
            max_position_embeddings: 1024,
            ..TransformerConfig::preset("base")?
        })
    }

    fn table(&self) -> Result<TrainingTable> {
        let precision: Precision = serde_json::from_value(json!(self.precision)).map_err(|_| {
            Error::settings("this precision is not offered").found(format!("`{}`", self.precision))
        })?;
        Ok(TrainingTable {
            precision,
            label_smoothing: self.label_smoothing,
            clip_norm: 0.0,
            ..TrainingTable::default()
        })
    }
}

impl Sentences {
    /// Adds a pair without special tokens; id 0 both starts the decoder and ends a sentence.
    pub(crate) fn push(&mut self, mut source: Vec<u32>, target: &[u32]) {
        source.push(0);
        self.source.push(source);
        self.decoder_input.push([&[0], target].concat());
        self.labels.push([target, &[0]].concat());
    }

    /// Adds a text of which each word but the first is to be said.
    pub(crate) fn push_text(&mut self, words: Vec<u32>) {
        self.source.push(Vec::new());
        self.decoder_input.push(words[..words.len() - 1].to_vec());
        self.labels.push(words[1..].to_vec());
    }

    /// Sentences in turn to each of the shards, as the trainer deals them.
    fn shards(&self, shards: usize) -> Vec<TrainingRows> {
        let mut parts = vec![TrainingRows::default(); shards];
        let rows = self
            .source
            .iter()
            .zip(&self.decoder_input)
            .zip(&self.labels);
        for (i, ((source, decoder_input), labels)) in rows.enumerate() {
            let part = &mut parts[i % shards];
            if !source.is_empty() {
                part.source.push(source.iter().copied());
            }
            part.target.push(decoder_input.iter().copied());
            part.labels.extend(labels);
        }
        parts
    }
}

/// Writes random initial weights where the job says that they are.
pub(crate) fn write_weights(job: &Job) -> Result<()> {
    let weights = Weights::random(job.model()?.index().clone(), 1);
    weights::write(&job.weights, &weights)
}

/// `run STEPS` makes so many updates, going round the batches, and tells the time they took and each one's loss.
pub(crate) fn serve(job: &Job) -> Result<()> {
    let table = job.table()?;
    let mut train_step = train_step(job, &table)?;
    let batches: Vec<Vec<TrainingRows>> =
        crate::read::<Vec<Sentences>>(&job.batches.to_string_lossy())?
            .iter()
            .map(|b| b.shards(table.shards))
            .collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(job.threads)
        .build()
        .map_err(|e| Error::internal("cannot start the threads").found(e.to_string()))?;
    let mut done = 0;
    protocol::serve(|words| {
        let ["run", steps] = words else {
            return Err(protocol::unknown(words));
        };
        let steps: usize = steps.parse().map_err(|_| protocol::unknown(words))?;
        pool.install(|| run(&mut train_step, job, &table, &batches, &mut done, steps))
    })
}

fn train_step(job: &Job, table: &TrainingTable) -> Result<TrainStep> {
    let model = job.model()?;
    let weights = weights::read(&job.weights, model.index())?;
    Ok(TrainStep::new(model, weights, table))
}

fn run(
    train_step: &mut TrainStep,
    job: &Job,
    table: &TrainingTable,
    batches: &[Vec<TrainingRows>],
    done: &mut usize,
    steps: usize,
) -> Result<Value> {
    let start = Instant::now();
    let (mut losses, mut tokens) = (Vec::with_capacity(steps), 0);
    for _ in 0..steps {
        let batch = &batches[*done % batches.len()];
        let report = train_step.run(
            table,
            *done as u64,
            job.learning_rate,
            std::slice::from_ref(batch),
        )?;
        losses.push(report.loss);
        tokens += report.target_tokens;
        *done += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({
        "seconds": seconds,
        "tokens": tokens,
        "losses": losses,
        "gradients": gradients(train_step),
        "parameters": train_step.model.index().iter().len(),
    }))
}

/// Parameters that the last step gave a gradient.
fn gradients(train_step: &TrainStep) -> usize {
    let gradient = train_step.gradient();
    let reached =
        |p: &&hexapla::weights::Parameter| gradient[p.range.clone()].iter().any(|g| *g != 0.0);
    train_step.model.index().iter().filter(reached).count()
}
