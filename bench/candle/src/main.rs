//! The training benchmark on candle: `bench-candle JOB.json`, then `run STEPS` on standard input.
//!
//! Jobs and protocol: `xtask/bench/README.md`. Sentences of one batch must have one length.

mod model;

use std::io::{BufRead, Write};
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use model::{Batch, Model};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Deserialize)]
struct Job {
    heads: usize,
    layers: usize,
    dropout: f32,
    label_smoothing: f64,
    learning_rate: f64,
    weights: String,
    batches: String,
}

#[derive(Debug, Deserialize)]
struct Sentences {
    source: Vec<Vec<u32>>,
    decoder_input: Vec<Vec<u32>>,
    labels: Vec<Vec<u32>>,
}

fn batch(sentences: &Sentences) -> candle_core::Result<Batch> {
    let table = |rows: &[Vec<u32>]| {
        Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu)
    };
    Ok(Batch {
        source: table(&sentences.source)?,
        decoder_input: table(&sentences.decoder_input)?,
        labels: table(&sentences.labels)?.flatten_all()?.unsqueeze(1)?,
    })
}

struct Trainer {
    model: Model,
    variables: Vec<Var>,
    adam: AdamW,
    batches: Vec<Batch>,
    label_smoothing: f64,
    done: usize,
    /// Parameters that the first step gave a gradient.
    reached: usize,
}

impl Trainer {
    fn new(job: &Job) -> Result<Self> {
        let tensors = candle_core::safetensors::load(&job.weights, &Device::Cpu)?;
        let (model, variables) = Model::new(job.heads, job.layers, job.dropout, &tensors)?;
        let settings = ParamsAdamW {
            lr: job.learning_rate,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-9,
            weight_decay: 0.0,
        };
        let sentences: Vec<Sentences> = serde_json::from_str(&std::fs::read_to_string(&job.batches)?)?;
        Ok(Trainer {
            model,
            adam: AdamW::new(variables.clone(), settings)?,
            variables,
            batches: sentences.iter().map(batch).collect::<candle_core::Result<_>>()?,
            label_smoothing: job.label_smoothing,
            done: 0,
            reached: 0,
        })
    }

    /// One update: loss, target tokens.
    fn step(&mut self) -> candle_core::Result<(f32, usize)> {
        let batch = &self.batches[self.done % self.batches.len()];
        let logits = self.model.forward(batch)?;
        let log_probs = candle_nn::ops::log_softmax(&logits, 1)?;
        // (1 − ε)·nll + ε·(mean over the vocabulary of −log p)
        let nll = log_probs.gather(&batch.labels, 1)?.mean_all()?.neg()?;
        let uniform = log_probs.mean_all()?.neg()?;
        let loss = ((nll * (1.0 - self.label_smoothing))? + (uniform * self.label_smoothing)?)?;
        let value = loss.to_scalar()?;
        let gradients = loss.backward()?;
        if self.done == 0 {
            self.reached = reached(&self.variables, &gradients)?;
        }
        self.done += 1;
        self.adam.step(&gradients)?;
        Ok((value, batch.labels.elem_count()))
    }

    fn run(&mut self, steps: usize) -> Result<Value> {
        let start = Instant::now();
        let (mut losses, mut tokens) = (Vec::new(), 0);
        for _ in 0..steps {
            let (loss, count) = self.step()?;
            losses.push(loss);
            tokens += count;
        }
        Ok(json!({ "seconds": start.elapsed().as_secs_f64(), "tokens": tokens, "losses": losses,
                   "gradients": self.reached, "parameters": self.variables.len() }))
    }
}

/// The variables whose gradient is there and not zero throughout.
fn reached(variables: &[Var], gradients: &GradStore) -> candle_core::Result<usize> {
    let mut count = 0;
    for variable in variables {
        if let Some(gradient) = gradients.get(variable.as_tensor()) {
            let size: f32 = gradient.abs()?.sum_all()?.to_scalar()?;
            count += usize::from(size > 0.0);
        }
    }
    Ok(count)
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
    let path = std::env::args().nth(1).ok_or("usage: bench-candle JOB.json")?;
    let job: Job = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let mut trainer = Trainer::new(&job)?;
    say(&json!({ "ready": true, "version": "0.11.1" }))?;
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
