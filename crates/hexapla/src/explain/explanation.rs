//! What is known of one text's way through a model: all that the page shows but for the arrays.

use std::collections::BTreeMap;

use serde::Serialize;

use super::influence::Influence;
use super::lens::LensRow;
use super::neighbours::Neighbours;
use super::tree::SearchTree;
use super::vocabulary::VocabularyUse;
use crate::config::{AlignmentReading, ModelConfig};

/// The layout's name.
pub const FORMAT: &str = "hexapla-trace";
/// The newest layout that this program writes.
pub const VERSION: u32 = 1;

/// One text, one model, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The model.
    pub model: ModelDescription,
    /// The text.
    pub text: TextDescription,
    /// What the encoder reads.
    pub source: Vec<u32>,
    /// What the decoder reads, the start token first; nothing for an encoder alone. Of a decoder alone the text that it was given,
    /// and what it wrote.
    pub target: Vec<u32>,
    /// How many tokens of `target` a decoder alone was given; the rest are its own.
    pub prompt: usize,
    /// What followed each row of the decoder, or of an encoder with a head for masked words.
    pub output: Vec<OutputToken>,
    /// The vocabulary's form of each id that occurs anywhere.
    pub pieces: Sides<BTreeMap<u32, String>>,
    /// Ids that are no text.
    pub special: Sides<Vec<u32>>,
    /// The likeliest tokens at each row of `output`.
    pub candidates: Vec<Candidates>,
    /// What an encoder's head says of the text or of its tokens: for each a number for each label.
    pub classes: Option<Classes>,
    /// How the output was searched for.
    pub search: Option<SearchTree>,
    /// What the model would say after each sublayer.
    pub lens: Vec<LensRow>,
    /// Where the alignment of output and source is read; nothing for an encoder alone.
    pub alignment: Option<AlignmentReading>,
    /// Which rows of the embedding are like those of the text.
    pub neighbours: Sides<BTreeMap<u32, Neighbours>>,
    /// How the output depends on heads and source tokens.
    pub influence: Option<Influence>,
    /// The pieces among the vocabulary.
    pub vocabulary: Option<VocabularyUse>,
    /// Why this token and not that one, where it was asked.
    pub contrast: Option<Contrast>,
}

/// One for each side.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sides<T> {
    /// Of the source.
    pub source: T,
    /// Of the target.
    pub target: T,
}

/// What a model is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelDescription {
    /// As people call it: its folder, or what it is.
    pub name: String,
    /// Whose conventions it follows.
    pub family: String,
    /// Arithmetic of its large products.
    pub compute_type: String,
    /// Numbers that were trained.
    pub parameters: usize,
    /// Its shape.
    pub config: ModelConfig,
    /// Measured qualities, as its maker tells them.
    pub metrics: Vec<String>,
}

/// A text and what it was made into.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextDescription {
    /// As it was given.
    pub given: String,
    /// The sentence that the page is about, without the tag of a language.
    pub source: String,
    /// The sentences of the text that the model translates.
    pub sentences: Vec<String>,
    /// Which of them it is about, from 0.
    pub sentence: usize,
    /// What it became, or what a decoder alone wrote behind it; empty for an encoder alone.
    pub output: String,
    /// Whether the end token ended it.
    pub finished: bool,
}

/// A token that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutputToken {
    /// The token.
    pub id: u32,
    /// Its log-probability.
    pub log_prob: f32,
}

/// The upper end of the distribution at a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidates {
    /// ln Σ exp(logits).
    pub log_sum_exp: f32,
    /// Tokens with their log-probabilities, the likeliest first.
    pub tokens: Vec<(u32, f32)>,
}

/// What a head over classes says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classes {
    /// Their names.
    pub labels: Vec<String>,
    /// For the text, or for each of its tokens, a logit for each label.
    pub logits: Vec<Vec<f32>>,
}

/// Why this token and not that one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contrast {
    /// The row of `output`.
    pub row: usize,
    /// The other token.
    pub instead: u32,
    /// log p(`instead`) − log p(the token that was chosen).
    pub difference: f32,
    /// How that changes where nobody looks at each source token.
    pub change: Vec<f32>,
}
