//! A `[[test]]` table.

use serde::{Deserialize, Serialize};

use super::Corpus;

/// Pairs that the finished model translates, and how its translations are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestSet {
    /// Its name in what is printed and kept.
    pub name: String,
    /// Width of the beam; 1 is greedy.
    pub beam_size: usize,
    /// Score of a hypothesis = log-probability / length^penalty.
    pub length_penalty: f32,
    /// A sentence ends as soon as `beam_size` hypotheses of it are finished.
    pub early_stopping: bool,
    /// BLEU's words: `13a`, `zh`, `char`, `intl` or `none`.
    pub tokenize: String,
    /// Ignore case.
    pub lowercase: bool,
    /// Undo a tokenization of Moses' kind in the translations: spaces before punctuation go, `&quot;` becomes `"`.
    pub detokenize: bool,
    /// The pairs.
    pub pairs: Corpus,
}

impl Default for TestSet {
    fn default() -> Self {
        TestSet {
            name: "test".into(),
            beam_size: 4,
            length_penalty: 1.0,
            early_stopping: false,
            tokenize: "13a".into(),
            lowercase: false,
            detokenize: false,
            pairs: Corpus::default(),
        }
    }
}
