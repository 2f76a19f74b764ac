//! What a recipe's `[[test]]` names, and how the finished model does on it.

use std::fmt;

use crate::config::TestSet;
use crate::error::{Error, Result};
use crate::formats::manifest::ManifestMetric;
use crate::metrics::{Bleu, BleuScore, Chrf, ChrfScore, Tokenizer as Words};
use crate::text::corpus::SentencePairs;
use crate::text::detokenize::detokenize;

/// A test set, read.
#[derive(Debug)]
pub struct TestSentences {
    /// What the recipe says.
    pub set: TestSet,
    /// Its pairs.
    pub pairs: SentencePairs,
    words: Words,
}

impl TestSentences {
    /// Reads the pairs of `set`.
    ///
    /// # Errors
    /// As [`SentencePairs::from_corpus`], or BLEU's words have no such name.
    pub fn open(set: &TestSet) -> Result<Self> {
        let place = |e: Error| e.within(format!("test `{}`", set.name));
        Ok(TestSentences {
            words: Words::from_name(&set.tokenize).map_err(|e| place(e.at("tokenize")))?,
            pairs: SentencePairs::from_corpus(&set.pairs).map_err(place)?,
            set: set.clone(),
        })
    }

    /// Scores `hypotheses`, one for each of `references`.
    ///
    /// # Errors
    /// There is none, or their numbers differ.
    pub fn score(&self, mut hypotheses: Vec<String>, references: &[String]) -> Result<TestResult> {
        if self.set.detokenize {
            for line in &mut hypotheses {
                *line = detokenize(line);
            }
        }
        let lowercase = self.set.lowercase;
        let bleu = Bleu {
            tokenizer: self.words,
            lowercase,
            ..Bleu::default()
        };
        let chrf = Chrf {
            lowercase,
            ..Chrf::default()
        };
        Ok(TestResult {
            name: self.set.name.clone(),
            bleu: bleu.corpus(&hypotheses, &[references])?,
            chrf: chrf.corpus(&hypotheses, &[references])?,
        })
    }
}

/// How the finished model did on a test set. It displays as the two scores with their signatures.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// The set's name.
    pub name: String,
    /// BLEU with precisions, brevity penalty and lengths.
    pub bleu: BleuScore,
    /// chrF.
    pub chrf: ChrfScore,
}

impl TestResult {
    /// What the manifest keeps.
    pub fn metrics(&self) -> [ManifestMetric; 2] {
        let metric = |name: &str, value: f64, signature: &str| ManifestMetric {
            name: format!("{name}, {}", self.name),
            value,
            signature: signature.into(),
        };
        [
            metric("BLEU", self.bleu.score, self.bleu.signature()),
            metric(self.chrf.name(), self.chrf.score, self.chrf.signature()),
        ]
    }
}

impl fmt::Display for TestResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bleu, chrf) = (&self.bleu, &self.chrf);
        let signatures = (bleu.signature(), chrf.signature());
        write!(f, "{bleu}\n  {}\n{chrf}\n  {}", signatures.0, signatures.1)
    }
}
