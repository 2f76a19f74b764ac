//! Vectors of given texts with the folder of a sentence encoder.

use std::path::PathBuf;
use std::time::Instant;

use hexapla::encode::SentenceEncoder;
use hexapla::error::{Error, Result};
use serde::Deserialize;
use serde_json::json;

use crate::protocol;

/// What to embed, the same file for every side.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    /// A model folder.
    model: PathBuf,
    /// `float32` or `int8`.
    compute_type: String,
    threads: usize,
    /// Texts of a batch: the next one starts when it is done.
    batch: usize,
    /// Token ids, with all that the model wants around them.
    texts: Vec<Vec<u32>>,
}

/// `run` embeds all texts and tells the time it took; `outputs` tells the vectors, too.
pub(crate) fn serve(job: &Job) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(job.threads)
        .build()
        .map_err(|e| Error::internal("cannot start the threads").found(e.to_string()))?;
    let compute_type = job.compute_type.parse()?;
    let model = pool.install(|| SentenceEncoder::open(&job.model, compute_type))?;
    let tokens: usize = job.texts.iter().map(Vec::len).sum();
    protocol::serve(|words| {
        let start = Instant::now();
        let mut vectors = Vec::with_capacity(job.texts.len());
        for batch in job.texts.chunks(job.batch.max(1)) {
            vectors.extend(pool.install(|| model.embed_ids(batch))?);
        }
        let seconds = start.elapsed().as_secs_f64();
        match words {
            ["run"] => Ok(json!({ "seconds": seconds, "tokens": tokens })),
            ["outputs"] => Ok(json!({ "seconds": seconds, "tokens": tokens, "outputs": vectors })),
            _ => Err(protocol::unknown(words)),
        }
    })
}
