//! Vectors of given texts, or scores of given pairs, with the folder of an encoder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hexapla::encode::{Encoder, Input, SentenceEncoder};
use hexapla::error::{Error, Result};
use serde::Deserialize;
use serde_json::json;

use crate::protocol;

/// What to embed or to score, the same file for every side.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    /// A model folder.
    model: PathBuf,
    /// Whether its head's logits are wanted, not vectors.
    head: bool,
    /// `float32` or `int8`.
    compute_type: String,
    threads: usize,
    /// Texts of a batch: the next one starts when it is done.
    batch: usize,
    /// Token ids, with all that the model wants around them.
    texts: Vec<Vec<u32>>,
    /// The segment of each token.
    segments: Vec<Vec<u32>>,
}

/// `run` embeds all texts and tells the time it took; `outputs` tells the vectors, too.
pub(crate) fn serve(job: &Job) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(job.threads)
        .build()
        .map_err(|e| Error::internal("cannot start the threads").found(e.to_string()))?;
    let pool = Arc::new(pool);
    let model = pool.install(|| Model::open(job))?;
    let inputs: Vec<Input> = job
        .texts
        .iter()
        .zip(&job.segments)
        .map(|(ids, segments)| Input {
            ids: ids.clone(),
            segments: segments.clone(),
        })
        .collect();
    let tokens: usize = job.texts.iter().map(Vec::len).sum();
    protocol::serve(|words| {
        let start = Instant::now();
        let mut vectors = Vec::with_capacity(inputs.len());
        for batch in inputs.chunks(job.batch.max(1)) {
            vectors.extend(pool.install(|| model.answer(batch))?);
        }
        let seconds = start.elapsed().as_secs_f64();
        match words {
            ["run"] => Ok(json!({ "seconds": seconds, "tokens": tokens })),
            ["outputs"] => Ok(json!({ "seconds": seconds, "tokens": tokens, "vectors": vectors })),
            _ => Err(protocol::unknown(words)),
        }
    })
}

/// What answers.
enum Model {
    Sentences(Box<SentenceEncoder>),
    Head(Box<Encoder>),
}

impl Model {
    fn open(job: &Job) -> Result<Self> {
        let compute_type = job.compute_type.parse()?;
        Ok(match job.head {
            true => Model::Head(Box::new(Encoder::open(&job.model, compute_type)?)),
            false => Model::Sentences(Box::new(SentenceEncoder::open(&job.model, compute_type)?)),
        })
    }

    fn answer(&self, batch: &[Input]) -> Result<Vec<Vec<f32>>> {
        match self {
            Model::Sentences(model) => model.embed_inputs(batch),
            Model::Head(model) => {
                let answers = model.logits(batch)?;
                Ok(answers.into_iter().flatten().collect())
            }
        }
    }
}
