//! What classifiers, taggers and finders of masked words have in common: an encoder with a head, and its tokenizer.

use rayon::prelude::*;

use super::encoder::{Encoder, Input};
use super::length::{Limit, LongTexts};
use crate::config::{ComputeType, EncoderHead};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats;
use crate::text::tokenizer::{EncodedText, EncoderTokenizer};

/// An encoder and its tokenizer.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) encoder: Encoder,
    pub(super) tokenizer: EncoderTokenizer,
}

impl Reader {
    /// Opens the folder of a model with a head from which `of` takes what is wanted; `expected` names such a head.
    ///
    /// # Errors
    /// As [`Encoder::open`]; or the model has another head.
    pub(super) fn open<T>(
        folder: &Folder,
        compute_type: ComputeType,
        expected: &str,
        of: impl FnOnce(&EncoderHead) -> Option<T>,
    ) -> Result<(Self, T)> {
        let opened = formats::open(folder.clone())?;
        let head = &opened.encoder()?.head;
        let wanted = of(head).ok_or_else(|| other_head(folder, expected, head))?;
        let reader = Reader {
            tokenizer: EncoderTokenizer::open_folder(folder).map_err(Error::of_model)?,
            encoder: Encoder::new(opened.model().clone(), opened.pack(compute_type)?),
        };
        Ok((reader, wanted))
    }

    pub(super) fn limit(&self, long: LongTexts) -> Limit {
        Limit {
            max_tokens: self.encoder.max_tokens(),
            long,
        }
    }

    /// The windows of each of `texts`.
    ///
    /// # Errors
    /// A text that is too long. [`Error::item`] says which.
    pub(super) fn windows<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        long: LongTexts,
    ) -> Result<Vec<Vec<EncodedText>>> {
        let limit = self.limit(long);
        each_text(texts, |text| {
            limit.single(&self.tokenizer, self.tokenizer.tokens(text)?)
        })
    }

    /// What the head says of each window, one text after the other.
    pub(super) fn logits(&self, windows: &[Vec<EncodedText>]) -> Result<Vec<Vec<Vec<f32>>>> {
        let segments = self.encoder.config().segments;
        self.encoder.logits(&inputs(windows, segments))
    }
}

/// What `windows` makes of each of `texts`, on all threads. An error says in which text.
pub(super) fn each_text<S: AsRef<str> + Sync>(
    texts: &[S],
    windows: impl Fn(&str) -> Result<Vec<EncodedText>> + Sync,
) -> Result<Vec<Vec<EncodedText>>> {
    let found = texts.par_iter().enumerate();
    let found = found.map(|(i, text)| windows(text.as_ref()).map_err(|e| e.in_item(i)));
    // All of them first, so that the first error is told.
    let found: Vec<Result<_>> = found.collect();
    found.into_iter().collect()
}

/// All windows as the model takes them; segments only where it has more than one.
pub(super) fn inputs(windows: &[Vec<EncodedText>], segments: usize) -> Vec<Input> {
    let input = |text: &EncodedText| Input {
        ids: text.ids.clone(),
        segments: match segments {
            0 | 1 => Vec::new(),
            _ => text.segments.clone(),
        },
    };
    windows.iter().flatten().map(input).collect()
}

/// The head is another than is asked for.
fn other_head(folder: &Folder, expected: &str, found: &EncoderHead) -> Error {
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
