//! Classes of texts, and the ranks of passages for a query (cross-encoders).

use std::sync::Arc;

use rayon::ThreadPool;

use super::length::LongTexts;
use super::reader::{Reader, each_text};
use crate::config::{ClassScores, ComputeType, EncoderHead};
use crate::error::Result;
use crate::files::Folder;
use crate::text::tokenizer::{EncodedText, EncoderTokenizer};

/// A model that says of a text, or of a pair of texts, to which classes it belongs.
#[derive(Debug)]
pub struct Classifier {
    reader: Reader,
    labels: Vec<String>,
    scores: ClassScores,
}

/// What was found of a text: a score for each class, in the order of [`Classifier::labels`].
pub type Classes = Vec<f32>;

impl Classifier {
    /// Opens the folder of a model with a head for classes of texts.
    ///
    /// # Errors
    /// As [`super::Encoder::open`]; or the model has another head.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let folder = folder.into();
        let expected = "a head for classes of texts";
        let (reader, (labels, scores)) =
            Reader::open(&folder, compute_type, expected, |head| match head {
                EncoderHead::Classes { labels, scores, .. } => Some((labels.clone(), *scores)),
                _ => None,
            })?;
        Ok(Classifier {
            reader,
            labels,
            scores,
        })
    }

    /// The same on the threads of `pool` instead of rayon's own. The results are the same.
    #[must_use]
    pub fn with_thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        let encoder = self.reader.encoder.with_thread_pool(pool);
        Classifier {
            reader: Reader {
                encoder,
                ..self.reader
            },
            ..self
        }
    }

    /// What cuts its texts.
    pub fn tokenizer(&self) -> &EncoderTokenizer {
        &self.reader.tokenizer
    }

    /// Longest text in tokens, all that is put around it included.
    pub fn max_tokens(&self) -> usize {
        self.reader.encoder.max_tokens()
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// What the scores are.
    pub fn scores(&self) -> ClassScores {
        self.scores
    }

    /// The scores of each of `texts`, in their order. Of a text in several windows it is their mean.
    ///
    /// # Errors
    /// A text that is too long. [`crate::Error::item`] says which.
    pub fn classify<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        long: LongTexts,
    ) -> Result<Vec<Classes>> {
        self.of_windows(&self.reader.windows(texts, long)?, mean)
    }

    /// The score of each of `passages` for `query`, in their order: of a model of one class its score, of a model of several that
    /// of the last one. Of a passage in several windows the greatest counts.
    ///
    /// # Errors
    /// A query or a passage that is too long. [`crate::Error::item`] says which passage.
    pub fn rank<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        passages: &[S],
        long: LongTexts,
    ) -> Result<Vec<f32>> {
        let (limit, tokenizer) = (self.reader.limit(long), &self.reader.tokenizer);
        let query = tokenizer.tokens(query)?;
        let windows = each_text(passages, |passage| {
            limit.pair(tokenizer, &query, tokenizer.tokens(passage)?)
        })?;
        let found = self.of_windows(&windows, |windows| {
            let last = windows.iter().filter_map(|classes| classes.last().copied());
            vec![last.fold(f32::NEG_INFINITY, f32::max)]
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// `together` makes one of what the windows of a text say.
    fn of_windows(
        &self,
        texts: &[Vec<EncodedText>],
        together: impl Fn(&[Classes]) -> Classes,
    ) -> Result<Vec<Classes>> {
        let mut logits = self.reader.logits(texts)?.into_iter().flatten();
        Ok(texts
            .iter()
            .map(|windows| {
                let own = logits.by_ref().take(windows.len());
                let classes: Vec<Classes> = own.map(|logits| score(self.scores, logits)).collect();
                together(&classes)
            })
            .collect())
    }
}

/// Logits as scores.
fn score(kind: ClassScores, mut logits: Vec<f32>) -> Classes {
    match kind {
        ClassScores::Logits => (),
        ClassScores::Sigmoid => logits
            .iter_mut()
            .for_each(|x| *x = 1.0 / (1.0 + libm::expf(-*x))),
        ClassScores::Softmax => softmax(&mut logits),
    }
    logits
}

pub(super) fn softmax(logits: &mut [f32]) {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits
        .iter_mut()
        .for_each(|x| *x = libm::expf(*x - greatest));
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|x| *x /= sum);
}

fn mean(windows: &[Classes]) -> Classes {
    let mut sum = windows.first().cloned().unwrap_or_default();
    for other in windows.iter().skip(1) {
        sum.iter_mut().zip(other).for_each(|(s, o)| *s += o);
    }
    sum.iter_mut().for_each(|s| *s /= windows.len() as f32);
    sum
}
