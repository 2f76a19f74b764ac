//! The texts behind a prompt as a model writes them.

use std::collections::BTreeMap;

use super::Hypothesis;
use super::growing_text::GrowingText;
use crate::error::Result;

/// What a model writes behind a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// Its text, without special tokens, and without the stop string that ended it.
    pub text: String,
    /// Its tokens as they were chosen, those of a stop string among them.
    pub ids: Vec<u32>,
    /// Why it ends.
    pub finish: Finish,
    /// The natural logarithm of its probability.
    pub log_prob: f32,
    /// Those of its tokens.
    pub token_log_probs: Vec<f32>,
}

impl Continuation {
    pub(super) fn new(hypothesis: Hypothesis, text: GrowingText) -> Self {
        Continuation {
            finish: match (text.stopped, hypothesis.finished) {
                (true, _) => Finish::Stop,
                (false, true) => Finish::End,
                (false, false) => Finish::Length,
            },
            text: text.text,
            ids: hypothesis.ids,
            log_prob: hypothesis.log_prob,
            token_log_probs: hypothesis.token_log_probs,
        }
    }
}

/// Why an output ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model wrote an end token.
    End,
    /// A stop string came, or whoever was told its text wanted no more.
    Stop,
    /// It is as long as it may be.
    Length,
}

/// The texts behind one prompt, one for each sample, as they grow.
#[derive(Debug)]
pub struct Outputs {
    /// A text with nothing in it yet.
    empty: GrowingText,
    /// By the numbers of the samples; nothing was seen of the others.
    begun: BTreeMap<usize, GrowingText>,
}

impl Outputs {
    pub(super) fn new(empty: GrowingText) -> Self {
        Outputs {
            empty,
            begun: BTreeMap::new(),
        }
    }

    fn of(&mut self, sample: usize) -> &mut GrowingText {
        let empty = &self.empty;
        self.begun.entry(sample).or_insert_with(|| empty.clone())
    }

    /// Sees a sample as far as it is, and gives the text that has become certain since it was last seen: no character in the middle,
    /// and nothing that may be the beginning of a stop string.
    ///
    /// # Errors
    /// The tokenizer's decoder cannot take its tokens.
    pub fn grow(&mut self, sample: usize, chain: &Hypothesis) -> Result<String> {
        self.of(sample).grow(&chain.ids, chain.finished)
    }

    /// Whether a sample is not to go on: a stop string has come, or [`Outputs::stop`] was said.
    pub fn is_stopped(&self, sample: usize) -> bool {
        self.begun.get(&sample).is_some_and(|text| text.stopped)
    }

    /// Nobody wants more of a sample.
    pub fn stop(&mut self, sample: usize) {
        self.of(sample).stopped = true;
    }

    /// The whole of each sample, and the end of its text that was not given before.
    pub fn finish(
        mut self,
        hypotheses: Vec<Hypothesis>,
    ) -> impl Iterator<Item = Result<(Continuation, String)>> {
        let all = hypotheses.into_iter().enumerate();
        all.map(move |(sample, hypothesis)| {
            // Beams were not seen before.
            let mut text = self.begun.remove(&sample).unwrap_or(self.empty.clone());
            let mut rest = text.grow(&hypothesis.ids, hypothesis.finished)?;
            rest.push_str(&text.finish()?);
            Ok((Continuation::new(hypothesis, text), rest))
        })
    }
}
