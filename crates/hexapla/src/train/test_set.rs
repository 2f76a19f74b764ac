//! What a recipe's `[[test]]` names, and how the finished model does on it.

use crate::config::TestSet;
use crate::error::{Error, Result};
use crate::formats::manifest::ManifestMetric;
use crate::metrics::{Scores, Tokenizer as Words};
use crate::text::corpus::SentencePairs;
use crate::text::detokenize::detokenize;
use crate::text::tokenizer::Tokenizer;

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
        let within = |e: Error| e.within(format!("test `{}`", set.name));
        Ok(TestSentences {
            words: Words::from_name(&set.tokenize).map_err(|e| within(e.at("tokenize")))?,
            pairs: SentencePairs::from_corpus(&set.pairs).map_err(within)?,
            set: set.clone(),
        })
    }

    /// The ids of the sources, without their ends.
    ///
    /// # Errors
    /// The tokenizer refuses one, or it has no room with its end in `most` positions.
    pub fn sources(&self, tokenizer: &Tokenizer, most: usize) -> Result<Vec<Vec<u32>>> {
        let within = |e: Error| e.within(format!("test `{}`", self.set.name));
        let sources = tokenizer.encode_all(&self.pairs.source).map_err(within)?;
        match sources.iter().position(|ids| ids.len() >= most) {
            None => Ok(sources),
            Some(number) => Err(within(
                Error::input("a test sentence is longer than the model takes")
                    .at(format!("pair {}", number + 1))
                    .expected(format!("fewer than {most} tokens"))
                    .found(format!("{} tokens", sources[number].len()))
                    .hint("raise model.max_position_embeddings, or cut the line into sentences"),
            )),
        }
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
        Ok(TestResult {
            name: self.set.name.clone(),
            scores: Scores::corpus(self.words, lowercase, &hypotheses, &[references])?,
        })
    }
}

/// How the finished model did on a test set.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// The set's name.
    pub name: String,
    /// BLEU and chrF.
    pub scores: Scores,
}

impl TestResult {
    /// What the manifest keeps.
    pub fn metrics(&self) -> [ManifestMetric; 2] {
        let Scores { bleu, chrf } = &self.scores;
        let metric = |name: &str, value: f64, signature: &str| ManifestMetric {
            name: format!("{name}, {}", self.name),
            value,
            signature: signature.into(),
        };
        [
            metric("BLEU", bleu.score, bleu.signature()),
            metric(chrf.name(), chrf.score, chrf.signature()),
        ]
    }
}
