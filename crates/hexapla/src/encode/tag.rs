//! Classes of tokens: names, parts of speech, replaced words.

use std::ops::Range;

use super::classify::softmax;
use super::length::LongTexts;
use super::reader::Reader;
use crate::config::{ComputeType, EncoderHead};
use crate::error::Result;
use crate::files::Folder;
use crate::text::tokenizer::EncodedText;

/// A model that says of each token to which class it belongs.
#[derive(Debug)]
pub struct Tagger {
    reader: Reader,
    labels: Vec<String>,
}

/// A token and its class.
#[derive(Debug, Clone, PartialEq)]
pub struct TaggedToken {
    /// Its place in the text, in bytes.
    pub bytes: Range<usize>,
    /// The number of its word.
    pub word: Option<u32>,
    /// The class, as its number in [`Tagger::labels`].
    pub class: usize,
    /// The probability of that class.
    pub score: f32,
}

impl Tagger {
    /// Opens the folder of a model with a head for classes of tokens.
    ///
    /// # Errors
    /// As [`super::Encoder::open`]; or the model has another head.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let folder = folder.into();
        let expected = "a head for classes of tokens";
        let (reader, labels) = Reader::open(&folder, compute_type, expected, |head| match head {
            EncoderHead::TokenClasses { labels, .. } => Some(labels.clone()),
            _ => None,
        })?;
        Ok(Tagger { reader, labels })
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The tokens of each of `texts` with their classes, in their order. A model of one class says how probable it is.
    ///
    /// # Errors
    /// A text that is too long. [`crate::Error::item`] says which.
    pub fn tag<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        long: LongTexts,
    ) -> Result<Vec<Vec<TaggedToken>>> {
        let texts = self.reader.windows(texts, long)?;
        let mut logits = self.reader.logits(&texts)?.into_iter();
        Ok(texts
            .iter()
            .map(|windows| {
                let of_windows = windows.iter().zip(logits.by_ref());
                of_windows
                    .flat_map(|(window, logits)| tagged(window, logits))
                    .collect()
            })
            .collect())
    }
}

/// The tokens of a text, without those that were put around it.
fn tagged(text: &EncodedText, logits: Vec<Vec<f32>>) -> Vec<TaggedToken> {
    let tokens = text.bytes.iter().zip(&text.words).zip(logits);
    tokens
        .filter(|((bytes, _), _)| !bytes.is_empty())
        .map(|((bytes, word), mut logits)| {
            let (class, score) = match logits.as_mut_slice() {
                [one] => (0, 1.0 / (1.0 + libm::expf(-*one))),
                several => {
                    softmax(several);
                    let best = several.iter().copied().enumerate();
                    best.fold((0, f32::NEG_INFINITY), |best, (i, x)| {
                        if x > best.1 { (i, x) } else { best }
                    })
                }
            };
            TaggedToken {
                bytes: bytes.clone(),
                word: *word,
                class,
                score,
            }
        })
        .collect()
}
