//! Classes of texts, and the ranks of passages for a query (cross-encoders).

use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::encoder::Encoder;
use super::length::{Limit, LongTexts, input};
use crate::config::{ClassScores, ComputeType, EncoderHead};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats;
use crate::text::tokenizer::{EncodedText, EncoderTokenizer};

/// A model that says of a text, or of a pair of texts, to which classes it belongs.
#[derive(Debug)]
pub struct Classifier {
    encoder: Encoder,
    tokenizer: EncoderTokenizer,
    labels: Vec<String>,
    scores: ClassScores,
}

/// What was found of a text: a score for each class, in the order of [`Classifier::labels`].
pub type Classes = Vec<f32>;

impl Classifier {
    /// Opens the folder of a model with a head for classes of texts.
    ///
    /// # Errors
    /// As [`Encoder::open`]; or the model has another head.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let folder = folder.into();
        let opened = formats::open(folder.clone())?;
        let EncoderHead::Classes { labels, scores, .. } = &opened.encoder()?.head else {
            return Err(other_head(
                &folder,
                "a head for classes of texts",
                &opened.encoder()?.head,
            ));
        };
        Ok(Classifier {
            tokenizer: EncoderTokenizer::open_folder(&folder).map_err(Error::of_model)?,
            labels: labels.clone(),
            scores: *scores,
            encoder: Encoder::new(opened.model().clone(), opened.pack(compute_type)?),
        })
    }

    /// The same on the threads of `pool` instead of rayon's own. The results are the same.
    #[must_use]
    pub fn with_thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        Classifier {
            encoder: self.encoder.with_thread_pool(pool),
            ..self
        }
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
    /// A text that is too long. [`Error::item`] says which.
    pub fn classify<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        long: LongTexts,
    ) -> Result<Vec<Classes>> {
        let limit = self.limit(long);
        let encoded = texts.par_iter().enumerate().map(|(i, text)| {
            let tokens = self.tokenizer.tokens(text.as_ref());
            let windows = tokens.and_then(|tokens| limit.single(&self.tokenizer, tokens));
            windows.map_err(|e| e.in_item(i))
        });
        let encoded: Vec<Result<Vec<EncodedText>>> = encoded.collect();
        self.of_windows(encoded, mean)
    }

    /// The score of each of `passages` for `query`, in their order: of a model of one class its score, of a model of several that
    /// of the last one. Of a passage in several windows the greatest counts.
    ///
    /// # Errors
    /// A query or a passage that is too long. [`Error::item`] says which passage.
    pub fn rank<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        passages: &[S],
        long: LongTexts,
    ) -> Result<Vec<f32>> {
        let limit = self.limit(long);
        let query = self.tokenizer.tokens(query)?;
        let encoded = passages.par_iter().enumerate().map(|(i, passage)| {
            let tokens = self.tokenizer.tokens(passage.as_ref());
            let windows = tokens.and_then(|tokens| limit.pair(&self.tokenizer, &query, tokens));
            windows.map_err(|e| e.in_item(i))
        });
        let encoded: Vec<Result<Vec<EncodedText>>> = encoded.collect();
        let found = self.of_windows(encoded, |windows| {
            let last = windows.iter().filter_map(|classes| classes.last().copied());
            vec![last.fold(f32::NEG_INFINITY, f32::max)]
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    fn limit(&self, long: LongTexts) -> Limit {
        Limit {
            max_tokens: self.encoder.max_tokens(),
            long,
        }
    }

    /// `together` makes one of what the windows of a text say.
    fn of_windows(
        &self,
        encoded: Vec<Result<Vec<EncodedText>>>,
        together: impl Fn(&[Classes]) -> Classes,
    ) -> Result<Vec<Classes>> {
        let encoded: Vec<Vec<EncodedText>> = encoded.into_iter().collect::<Result<_>>()?;
        let segments = self.encoder.config().segments;
        let inputs: Vec<_> = encoded
            .iter()
            .flatten()
            .map(|window| input(window, segments))
            .collect();
        let logits = self.encoder.logits(&inputs)?;
        let mut logits = logits.into_iter().flatten();
        Ok(encoded
            .iter()
            .map(|windows| {
                let own = logits.by_ref().take(windows.len());
                let classes: Vec<Classes> = own.map(|logits| score(self.scores, logits)).collect();
                together(&classes)
            })
            .collect())
    }
}

/// The head is another than is asked for.
pub(super) fn other_head(folder: &Folder, expected: &str, found: &EncoderHead) -> Error {
    let (found, hint) = match found {
        EncoderHead::Hidden { .. } => ("no head", "`hexapla embed` makes vectors with this model"),
        EncoderHead::Tokens { .. } => ("a head for masked words", "`hexapla fill` uses it"),
        EncoderHead::Classes { .. } => (
            "a head for classes of texts",
            "`hexapla classify` and `rerank` use it",
        ),
        EncoderHead::TokenClasses { .. } => {
            ("a head for classes of tokens", "`hexapla tag` uses it")
        }
    };
    Error::model("this model cannot do that")
        .at(folder.path().display().to_string())
        .expected(expected)
        .found(found)
        .hint(hint)
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
