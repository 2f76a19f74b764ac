//! The training benchmark on burn: `bench-burn JOB.json`, then `run STEPS` on standard input.
//!
//! Jobs and protocol: `xtask/bench/README.md`. The model is burn's own `TransformerEncoder` and `TransformerDecoder` on its
//! `flex` backend, which burn recommends for processors in place of the deprecated `ndarray`. Sentences of one batch must have one length.

mod weights;

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param, list_param_ids};
use burn::nn::activation::ActivationConfig;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::transformer::{
    TransformerDecoder, TransformerDecoderConfig, TransformerDecoderInput, TransformerEncoder,
    TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Debug, Deserialize)]
struct Job {
    d_model: usize,
    heads: usize,
    feed_forward: usize,
    layers: usize,
    vocabulary: usize,
    dropout: f64,
    label_smoothing: f32,
    learning_rate: f64,
    weights: String,
    batches: String,
}

#[derive(Debug, Deserialize)]
struct Sentences {
    source: Vec<Vec<i64>>,
    decoder_input: Vec<Vec<i64>>,
    labels: Vec<Vec<i64>>,
}

/// A batch as tensors; all rows have one length.
struct Batch {
    source: Tensor<2, Int>,
    decoder_input: Tensor<2, Int>,
    labels: Tensor<1, Int>,
    tokens: usize,
}

#[derive(Module, Debug)]
struct Model {
    embedding: Embedding,
    encoder: TransformerEncoder,
    decoder: TransformerDecoder,
    dropout: Dropout,
    output_bias: Param<Tensor<1>>,
}

impl Model {
    fn new(job: &Job, device: &Device) -> Self {
        let (width, inner, heads, layers) = (job.d_model, job.feed_forward, job.heads, job.layers);
        Model {
            embedding: EmbeddingConfig::new(job.vocabulary, width).init(device),
            encoder: TransformerEncoderConfig::new(width, inner, heads, layers)
                .with_dropout(job.dropout)
                .with_activation(ActivationConfig::Relu)
                .init(device),
            decoder: TransformerDecoderConfig::new(width, inner, heads, layers)
                .with_dropout(job.dropout)
                .with_activation(ActivationConfig::Relu)
                .init(device),
            dropout: DropoutConfig::new(job.dropout).init(),
            output_bias: Param::from_tensor(Tensor::zeros([job.vocabulary], device)),
        }
    }

    /// ids [sentences, length] to [sentences, length, width]
    fn embed(&self, ids: Tensor<2, Int>, positions: &Tensor<3>) -> Tensor<3> {
        let [_, length] = ids.dims();
        let x = self.embedding.forward(ids);
        let [_, _, width] = x.dims();
        let positions = positions.clone().narrow(1, 0, length);
        self.dropout.forward(x * (width as f32).sqrt() + positions)
    }

    /// Logits [sentences · length, vocabulary].
    fn forward(&self, batch: &Batch, positions: &Tensor<3>) -> Tensor<2> {
        let source = self.embed(batch.source.clone(), positions);
        let memory = self.encoder.forward(TransformerEncoderInput::new(source));
        let target = self.embed(batch.decoder_input.clone(), positions);
        let [sentences, length, width] = target.dims();
        let causal = generate_autoregressive_mask(sentences, length, &target.device());
        let input = TransformerDecoderInput::new(target, memory).target_mask_attn(causal);
        let hidden = self.decoder.forward(input).reshape([sentences * length, width]);
        hidden.matmul(self.embedding.weight.val().transpose()) + self.output_bias.val().unsqueeze()
    }
}

/// [1, length, width]: sines in the first half of the vector, cosines in the second.
fn positions(length: usize, width: usize, device: &Device) -> Tensor<3> {
    let half = width / 2;
    let value = |position: usize, i: usize| {
        let angle = position as f64 / 10000f64.powf((i % half) as f64 * 2.0 / width as f64);
        if i < half { angle.sin() as f32 } else { angle.cos() as f32 }
    };
    let values: Vec<f32> = (0..length * width).map(|n| value(n / width, n % width)).collect();
    Tensor::from_data(TensorData::new(values, [1, length, width]), device)
}

fn batch(sentences: &Sentences, device: &Device) -> Batch {
    let table = |rows: &[Vec<i64>]| -> Tensor<2, Int> {
        let shape = [rows.len(), rows[0].len()];
        Tensor::from_data(TensorData::new(rows.concat(), shape), device)
    };
    let labels = table(&sentences.labels);
    let tokens = labels.dims().iter().product();
    Batch {
        source: table(&sentences.source),
        decoder_input: table(&sentences.decoder_input),
        labels: labels.reshape([tokens]),
        tokens,
    }
}

/// Counts the parameters whose gradient is there and not zero throughout.
struct Reached<'a> {
    gradients: &'a GradientsParams,
    count: usize,
}

impl ModuleVisitor for Reached<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let largest: f32 = gradient.abs().max().into_scalar();
            self.count += usize::from(largest > 0.0);
        }
    }
}

struct Trainer {
    /// Taken for the time of a step, so that its weights can be changed in place.
    model: Option<Model>,
    adam: ModuleOptimizer,
    loss: CrossEntropyLoss,
    positions: Tensor<3>,
    batches: Vec<Batch>,
    learning_rate: f64,
    device: Device,
    done: usize,
    /// Parameters that the first step gave a gradient.
    reached: usize,
}

impl Trainer {
    fn new(job: &Job) -> Result<Self> {
        let device = Device::flex().autodiff();
        let mut model = Model::new(job, &device);
        weights::load(&mut model, &job.weights, &device)?;
        let sentences: Vec<Sentences> = serde_json::from_str(&std::fs::read_to_string(&job.batches)?)?;
        Ok(Trainer {
            model: Some(model),
            adam: AdamConfig::new().with_beta_2(0.98).with_epsilon(1e-9).init(),
            loss: CrossEntropyLossConfig::new()
                .with_smoothing(Some(job.label_smoothing))
                .init(&device),
            positions: positions(1024, job.d_model, &device),
            batches: sentences.iter().map(|s| batch(s, &device)).collect(),
            learning_rate: job.learning_rate,
            device,
            done: 0,
            reached: 0,
        })
    }

    /// One update: loss, target tokens.
    fn step(&mut self) -> Result<(f32, usize)> {
        let batch = &self.batches[self.done % self.batches.len()];
        let model = self.model.take().ok_or("a step failed before")?;
        let logits = model.forward(batch, &self.positions);
        let loss = self.loss.forward(logits, batch.labels.clone());
        let value: f32 = loss.clone().into_scalar();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        if self.done == 0 {
            let mut reached = Reached { gradients: &gradients, count: 0 };
            model.visit(&mut reached);
            self.reached = reached.count;
        }
        self.done += 1;
        self.model = Some(self.adam.step(self.learning_rate, model, gradients));
        self.device.sync().map_err(|e| format!("{e:?}"))?;
        Ok((value, batch.tokens))
    }

    fn run(&mut self, steps: usize) -> Result<Value> {
        let start = Instant::now();
        let (mut losses, mut tokens) = (Vec::new(), 0);
        for _ in 0..steps {
            let (loss, count) = self.step()?;
            losses.push(loss);
            tokens += count;
        }
        let seconds = start.elapsed().as_secs_f64();
        let parameters = self.model.as_ref().map_or(0, |model| list_param_ids(model).len());
        Ok(json!({ "seconds": seconds, "tokens": tokens, "losses": losses, "gradients": self.reached,
                   "parameters": parameters }))
    }
}

fn memory() -> Option<(f64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find(|l| l.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
    };
    Some((field("VmHWM:")?, field("VmRSS:")?))
}

fn say(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).ok_or("usage: bench-burn JOB.json")?;
    let job: Job = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let mut trainer = Trainer::new(&job)?;
    say(&json!({ "ready": true, "version": "0.22.1, flex" }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let steps = line.strip_prefix("run ").ok_or("expected run STEPS")?.trim().parse()?;
        let mut answer = trainer.run(steps)?;
        if let Some((peak, resident)) = memory() {
            answer["peak_mib"] = peak.into();
            answer["resident_mib"] = resident.into();
        }
        say(&answer)?;
    }
    Ok(())
}
