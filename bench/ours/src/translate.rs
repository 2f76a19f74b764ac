//! Decoding given sources with a model folder.

use std::path::PathBuf;
use std::time::Instant;

use hexapla::error::{Error, Result};
use hexapla::formats;
use hexapla::generate::SearchOptions;
use hexapla::generate::engine::{Engine, Request};
use serde::Deserialize;
use serde_json::json;

use crate::protocol;

/// What to decode, the same file for every side.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    /// A model folder.
    model: PathBuf,
    /// `float32`, `bf16` or `int8`.
    compute_type: String,
    threads: usize,
    /// Batches under way at the same time.
    streams: usize,
    /// Sentences of a batch.
    batch: usize,
    beam: usize,
    /// Target tokens of every sentence: no end token is produced.
    tokens: usize,
    /// Source ids, end token included.
    sources: Vec<Vec<u32>>,
}

/// `run` decodes all sources and tells the time it took; `outputs` tells what came out, too.
pub(crate) fn serve(job: &Job) -> Result<()> {
    let engine = open(job)?;
    let mut options = SearchOptions::for_model(engine.config());
    options.beam_size = job.beam;
    options.ignore_eos = true;
    let requests: Vec<Request> = job
        .sources
        .iter()
        .map(|source| Request {
            source: source.clone(),
            prefix: Vec::new(),
            max_length: job.tokens,
            seed_index: 0,
        })
        .collect();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(job.threads)
        .build()
        .map_err(|e| Error::internal("cannot start the threads").found(e.to_string()))?;
    protocol::serve(|words| {
        let start = Instant::now();
        let outputs = pool.install(|| decode(&engine, job, &requests, &options))?;
        let seconds = start.elapsed().as_secs_f64();
        let tokens: usize = outputs.iter().map(Vec::len).sum();
        match words {
            ["run"] => Ok(json!({ "seconds": seconds, "tokens": tokens })),
            ["outputs"] => Ok(json!({ "seconds": seconds, "tokens": tokens, "outputs": outputs })),
            _ => Err(protocol::unknown(words)),
        }
    })
}

fn open(job: &Job) -> Result<Engine> {
    let opened = formats::open(&job.model)?;
    let parameters = opened.pack(job.compute_type.parse()?)?;
    Ok(Engine::new(opened.model().clone(), parameters))
}

/// With one stream a batch starts when the one before it is done; with more, the engine shares the batches out.
fn decode(
    engine: &Engine,
    job: &Job,
    requests: &[Request],
    options: &SearchOptions,
) -> Result<Vec<Vec<u32>>> {
    let longest = job.sources.iter().map(Vec::len).max().unwrap_or(1);
    let mut outputs = Vec::with_capacity(requests.len());
    let together = if job.streams > 1 {
        requests.len()
    } else {
        job.batch
    };
    for part in requests.chunks(together.max(1)) {
        for hypotheses in engine.generate(part, options, job.batch * longest)? {
            outputs.push(hypotheses.into_iter().next().map_or(Vec::new(), |h| h.ids));
        }
    }
    Ok(outputs)
}
