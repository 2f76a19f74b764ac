//! Masked words.

use super::classify::softmax;
use super::length::LongTexts;
use super::reader::{Reader, each_text, inputs};
use crate::config::{ComputeType, EncoderHead};
use crate::error::{Error, Result};
use crate::files::Folder;

/// A model that finds the words that a text's masks stand for.
#[derive(Debug)]
pub struct FillMask {
    reader: Reader,
    mask: (String, u32),
}

/// A token that may stand in a mask's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Its probability.
    pub score: f32,
}

impl FillMask {
    /// Opens the folder of a model with a head for masked words.
    ///
    /// # Errors
    /// As [`super::Encoder::open`]; or the model has another head, or its tokenizer no token for masks.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let folder = folder.into();
        let expected = "a head for masked words";
        let (reader, ()) = Reader::open(&folder, compute_type, expected, |head| {
            matches!(head, EncoderHead::Tokens { .. }).then_some(())
        })?;
        let mask = reader
            .tokenizer
            .mask_token()
            .map(|(token, id)| (token.to_string(), id));
        let mask = mask.ok_or_else(|| {
            Error::model("the tokenizer has no token for masked words")
                .at(folder.path().display().to_string())
                .expected("[MASK], <mask>, or what tokenizer_config.json calls mask_token")
                .found("none")
        })?;
        Ok(FillMask { reader, mask })
    }

    /// The token that stands for a masked word in a text.
    pub fn mask_token(&self) -> &str {
        &self.mask.0
    }

    /// For each of `texts` and each mask in it the `count` most probable tokens, the best first.
    ///
    /// # Errors
    /// A text without a mask, or one that is too long. [`Error::item`] says which.
    pub fn fill<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        count: usize,
    ) -> Result<Vec<Vec<Vec<Candidate>>>> {
        let Reader { encoder, tokenizer } = &self.reader;
        // A mask that was cut off would have no answer.
        let limit = self.reader.limit(LongTexts::Refuse);
        let windows = each_text(texts, |text| {
            let tokens = tokenizer.tokens(text)?;
            if !tokens.ids().contains(&self.mask.1) {
                return Err(Error::input("a text has no masked word")
                    .expected(format!("`{}` in it", self.mask.0))
                    .found(format!("`{}`", text.chars().take(40).collect::<String>()))
                    .hint("write the mask where a word is to be found"));
            }
            limit.single(tokenizer, tokens)
        })?;
        let inputs = inputs(&windows, encoder.config().segments);
        let masks = |ids: &[u32]| -> Vec<usize> {
            let places = ids.iter().enumerate();
            places
                .filter(|(_, id)| **id == self.mask.1)
                .map(|(i, _)| i)
                .collect()
        };
        let found = encoder.each(&inputs, |run, hidden, rows| {
            // The output layer for the masks alone: it is the largest.
            let of_texts = rows
                .spans
                .iter()
                .map(|span| masks(&rows.ids[span.start..span.start + span.len]));
            let of_texts: Vec<Vec<usize>> = of_texts.collect();
            let all = of_texts.iter().zip(&rows.spans);
            let all: Vec<usize> = all
                .flat_map(|(masks, span)| masks.iter().map(|m| span.start + m))
                .collect();
            let width = hidden.columns();
            let mut picked = run.tensor(all.len(), width);
            for (to, row) in picked.data_mut().chunks_exact_mut(width).zip(&all) {
                to.copy_from_slice(hidden.row(*row));
            }
            let logits = encoder.model().logits(run, &picked);
            let mut next = 0..logits.rows();
            of_texts
                .iter()
                .map(|masks| {
                    let rows = next.by_ref().take(masks.len());
                    rows.map(|row| self.best(logits.row(row), count)).collect()
                })
                .collect()
        })?;
        Ok(found)
    }

    /// The most probable tokens.
    fn best(&self, logits: &[f32], count: usize) -> Result<Vec<Candidate>> {
        let mut scores = logits.to_vec();
        softmax(&mut scores);
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let score = |id: u32| scores[id as usize];
        // Of equal ones the lower id first.
        let best_first = |a: &u32, b: &u32| score(*b).total_cmp(&score(*a)).then(a.cmp(b));
        if count < order.len() {
            order.select_nth_unstable_by(count, best_first);
            order.truncate(count);
        }
        order.sort_by(best_first);
        order
            .into_iter()
            .take(count)
            .map(|id| {
                Ok(Candidate {
                    id,
                    text: self.reader.tokenizer.text_of(id)?,
                    score: score(id),
                })
            })
            .collect()
    }
}
