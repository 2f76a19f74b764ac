//! The training pairs as an epoch sees them.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::batch::{Pair, TrainingRows};
use crate::error::Result;
use crate::random::{SplitMix, mix};
use crate::text::tokenizer::{BpeDropout, Tokenizers};
use crate::train::examples::{EpochExamples, Examples};

/// Pairs that are the same in each epoch, or cut anew for each.
#[derive(Debug)]
pub struct TrainingPairs<'a> {
    pairs: &'a [Pair],
    marks: Marks,
    dropout: Option<SubwordDropout>,
}

/// The tokens that stand around a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// What the decoder reads first.
    pub start: u32,
    /// What ends both sides.
    pub end: u32,
}

/// The pairs of one epoch.
struct EpochPairs<'a> {
    pairs: Cow<'a, [Pair]>,
    marks: Marks,
}

#[derive(Debug)]
struct SubwordDropout {
    source: BpeDropout,
    /// None where both sides share the source's.
    target: Option<BpeDropout>,
    p: f32,
    seed: u64,
    /// Tokens of the longest pair: no model has room for less.
    longest: usize,
}

impl<'a> TrainingPairs<'a> {
    /// `pairs`, always.
    pub fn fixed(pairs: &'a [Pair], marks: Marks) -> Self {
        TrainingPairs {
            pairs,
            marks,
            dropout: None,
        }
    }

    /// `pairs`, which `tokenizers` made, with BPE-dropout of probability `p`.
    ///
    /// # Errors
    /// A tokenizer is of another kind.
    pub fn with_bpe_dropout(
        pairs: &'a [Pair],
        marks: Marks,
        tokenizers: &Tokenizers,
        (p, seed): (f32, u64),
    ) -> Result<Self> {
        if p == 0.0 {
            return Ok(Self::fixed(pairs, marks));
        }
        let source = tokenizers.source.bpe_dropout()?;
        let target = match tokenizers.is_joint() {
            true => None,
            false => Some(tokenizers.target.bpe_dropout()?),
        };
        let longest = pairs.iter().map(Pair::tokens).max().unwrap_or(0);
        let dropout = Some(SubwordDropout {
            source,
            target,
            p,
            seed,
            longest,
        });
        Ok(TrainingPairs {
            pairs,
            marks,
            dropout,
        })
    }

    /// Those of one epoch, the same for a seed and an epoch. Dropout makes a pair longer; where it would be longer than any
    /// was before, it stays as it was.
    pub fn pairs(&self, epoch: u64) -> Cow<'a, [Pair]> {
        let Some(dropout) = &self.dropout else {
            return Cow::Borrowed(self.pairs);
        };
        let pairs = self.pairs.par_iter().enumerate();
        let cut = pairs.map(|(i, pair)| {
            let key = mix(dropout.seed ^ mix(epoch ^ mix(i as u64 ^ 0xB9ED)));
            let cut = dropout.cut(pair, &mut SplitMix(key));
            if cut.tokens() > dropout.longest {
                pair.clone()
            } else {
                cut
            }
        });
        Cow::Owned(cut.collect())
    }
}

impl Examples for TrainingPairs<'_> {
    fn of_epoch(&self, number: u64) -> Box<dyn EpochExamples + '_> {
        Box::new(EpochPairs {
            pairs: self.pairs(number),
            marks: self.marks,
        })
    }
}

impl EpochExamples for EpochPairs<'_> {
    fn lengths(&self) -> Vec<usize> {
        self.pairs.iter().map(Pair::tokens).collect()
    }

    fn push(&self, number: usize, rows: &mut TrainingRows) {
        let (pair, marks) = (&self.pairs[number], self.marks);
        rows.push(&pair.source, &pair.target, marks.start, marks.end);
    }
}

impl SubwordDropout {
    fn cut(&self, pair: &Pair, random: &mut SplitMix) -> Pair {
        let target = self.target.as_ref().unwrap_or(&self.source);
        Pair {
            source: self.source.cut(&pair.source, self.p, random),
            target: target.cut(&pair.target, self.p, random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TokenizerKind, TokenizerTable};

    #[test]
    fn an_epoch_cuts_its_own_way_and_always_the_same() {
        // The last has no merges, and is longer than the others can become.
        let texts = [
            "low lower lowest",
            "new newer newest",
            "the lower the newer",
            "0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9",
        ];
        let texts = texts.map(String::from);
        for joint in [true, false] {
            let table = TokenizerTable {
                kind: TokenizerKind::Bpe,
                vocab_size: 320,
                joint,
                ..TokenizerTable::default()
            };
            let tokenizers = Tokenizers::prepare(&table, &texts, &texts).unwrap();
            let ids = tokenizers.source.encode_all(&texts).unwrap();
            let pair = |i: usize| Pair {
                source: ids[i].clone(),
                target: ids[(i + 1) % 4].clone(),
            };
            let pairs: Vec<Pair> = (0..4).map(pair).collect();
            let marks = Marks { start: 2, end: 2 };
            let fixed = TrainingPairs::fixed(&pairs, marks);
            assert_eq!(fixed.pairs(3), pairs);
            let none =
                TrainingPairs::with_bpe_dropout(&pairs, marks, &tokenizers, (0.0, 1)).unwrap();
            assert_eq!(none.pairs(3), pairs);
            let cut =
                TrainingPairs::with_bpe_dropout(&pairs, marks, &tokenizers, (0.3, 1)).unwrap();
            assert_eq!(cut.pairs(0), cut.pairs(0));
            assert_ne!(cut.pairs(0), cut.pairs(1));
            let longest = pairs.iter().map(Pair::tokens).max();
            for epoch in 0..20 {
                let cut = cut.pairs(epoch);
                assert!(cut.iter().map(Pair::tokens).max() <= longest);
                for (cut, pair) in cut.iter().zip(&pairs) {
                    let text = |ids: &[u32]| tokenizers.target.decode(ids).unwrap();
                    assert_eq!(text(&cut.target), text(&pair.target));
                }
            }
        }
    }
}
