//! Going on with given prompts, with the folder of a decoder alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hexapla::error::{Error, Result};
use hexapla::generate::SearchOptions;
use hexapla::generate::generator::{Generator, Prompt};
use serde::Deserialize;
use serde_json::json;

use crate::protocol;

/// What to go on with, the same file for every side.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    /// A model folder.
    model: PathBuf,
    /// `float32`, `int8` or `int4`.
    compute_type: String,
    threads: usize,
    /// Ids of texts that are read together.
    prompts: Vec<Vec<u32>>,
    /// Tokens that are then decoded of each, the likeliest every time, and whose time alone counts; with none of them that of the
    /// prompts does.
    new_tokens: usize,
    /// Texts whose losses are compared.
    texts: Vec<Vec<u32>>,
}

/// Tokens of a question on a document.
const QUESTION: usize = 20;

/// `run` tells the time of the prompts or of the new tokens; `prefix` tells that of the first token behind a document, which is all
/// prompts, and a question, and behind it and another question, where its keys and values are kept; `losses` tells −ln p a token of each text.
pub(crate) fn serve(job: &Job) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(job.threads)
        .build()
        .map_err(|e| Error::internal("cannot start the threads").found(e.to_string()))?;
    let pool = Arc::new(pool);
    let compute_type = job.compute_type.parse()?;
    let generator = pool.install(|| Generator::open(&job.model, compute_type))?;
    let generator = generator.with_thread_pool(pool.clone());
    // No end token is produced.
    let options = Arc::new(SearchOptions {
        ignore_eos: true,
        ..SearchOptions::new(0, 0)
    });
    let prompt = |ids: &Vec<u32>| Prompt {
        ids: ids.clone(),
        max_new_tokens: job.new_tokens + 1,
        seed_index: 0,
    };
    let prompts: Vec<Prompt> = job.prompts.iter().map(prompt).collect();
    protocol::serve(|words| match words {
        ["run"] if job.new_tokens == 0 => {
            let start = Instant::now();
            let outputs = generator.generate(&prompts, &options)?;
            let seconds = start.elapsed().as_secs_f64();
            assert!(outputs.iter().all(|outputs| outputs[0].ids.len() == 1));
            let tokens: usize = job.prompts.iter().map(Vec::len).sum();
            Ok(json!({ "seconds": seconds, "tokens": tokens }))
        }
        ["run"] => {
            let mut batch = generator.running();
            for prompt in &prompts {
                batch.add(prompt, &options)?;
            }
            batch.step(None)?;
            let start = Instant::now();
            let mut tokens = 0;
            while !batch.is_empty() {
                tokens += batch.len();
                batch.step(None)?;
            }
            let seconds = start.elapsed().as_secs_f64();
            Ok(json!({ "seconds": seconds, "tokens": tokens }))
        }
        ["losses"] => {
            let mean = |ids: &Vec<u32>| -> Result<f64> {
                let losses = generator.losses(ids, 1)?;
                let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
                Ok(sum / losses.len() as f64)
            };
            let losses: Vec<f64> = job.texts.iter().map(mean).collect::<Result<_>>()?;
            Ok(json!({ "losses": losses }))
        }
        ["prefix"] => {
            let open = || Generator::open(&job.model, compute_type);
            let cached = pool.install(open)?.with_prefix_cache(1 << 30);
            let cached = cached.with_thread_pool(pool.clone());
            let document = job.prompts.concat();
            let seconds = |document: &[u32], question: &[u32]| -> Result<f64> {
                let prompt = Prompt {
                    ids: [document, question].concat(),
                    max_new_tokens: 1,
                    seed_index: 0,
                };
                let start = Instant::now();
                cached.generate(&[prompt], &options)?;
                Ok(start.elapsed().as_secs_f64())
            };
            // Another document: buffers are there from then on.
            seconds(&document[1..], &document[..QUESTION])?;
            let first = seconds(&document, &document[1..1 + QUESTION])?;
            let second = seconds(&document, &document[2..2 + QUESTION])?;
            Ok(json!({ "first": first, "second": second }))
        }
        _ => Err(protocol::unknown(words)),
    })
}
