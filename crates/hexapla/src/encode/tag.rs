//! Classes of tokens: names, parts of speech, replaced words.

use std::ops::Range;

use rayon::prelude::*;

use super::classify::{other_head, softmax};
use super::encoder::Encoder;
use super::length::{Limit, LongTexts, input};
use crate::config::{ComputeType, EncoderHead};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats;
use crate::text::tokenizer::{EncodedText, EncoderTokenizer};

/// A model that says of each token to which class it belongs.
#[derive(Debug)]
pub struct Tagger {
    encoder: Encoder,
    tokenizer: EncoderTokenizer,
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
    /// As [`Encoder::open`]; or the model has another head.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let folder = folder.into();
        let opened = formats::open(folder.clone())?;
        let EncoderHead::TokenClasses { labels, .. } = &opened.encoder()?.head else {
            return Err(other_head(
                &folder,
                "a head for classes of tokens",
                &opened.encoder()?.head,
            ));
        };
        Ok(Tagger {
            tokenizer: EncoderTokenizer::open_folder(&folder).map_err(Error::of_model)?,
            labels: labels.clone(),
            encoder: Encoder::new(opened.model().clone(), opened.pack(compute_type)?),
        })
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The tokens of each of `texts` with their classes, in their order. A model of one class says how probable it is.
    ///
    /// # Errors
    /// A text that is too long. [`Error::item`] says which.
    pub fn tag<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        long: LongTexts,
    ) -> Result<Vec<Vec<TaggedToken>>> {
        let limit = Limit {
            max_tokens: self.encoder.max_tokens(),
            long,
        };
        let encoded = texts.par_iter().enumerate().map(|(i, text)| {
            let tokens = self.tokenizer.tokens(text.as_ref());
            let windows = tokens.and_then(|tokens| limit.single(&self.tokenizer, tokens));
            windows.map_err(|e| e.in_item(i))
        });
        let encoded: Vec<Result<Vec<EncodedText>>> = encoded.collect();
        let encoded: Vec<Vec<EncodedText>> = encoded.into_iter().collect::<Result<_>>()?;
        let segments = self.encoder.config().segments;
        let inputs: Vec<_> = encoded
            .iter()
            .flatten()
            .map(|window| input(window, segments))
            .collect();
        let mut logits = self.encoder.logits(&inputs)?.into_iter();
        Ok(encoded
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
