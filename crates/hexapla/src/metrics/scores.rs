//! BLEU and chrF of the same translations, side by side.

use std::fmt;

use super::{Bleu, BleuScore, Chrf, ChrfScore, Tokenizer};
use crate::error::Result;

/// Both scores. They display as sacreBLEU's lines, each with its signature below.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// BLEU with precisions, brevity penalty and lengths.
    pub bleu: BleuScore,
    /// chrF.
    pub chrf: ChrfScore,
}

impl Scores {
    /// Scores a whole corpus; `references[k][i]` is the k-th reference of hypothesis i. `words` are BLEU's.
    ///
    /// # Errors
    /// As [`Bleu::corpus`].
    pub fn corpus<H: AsRef<str>, R: AsRef<str>>(
        words: Tokenizer,
        lowercase: bool,
        hypotheses: &[H],
        references: &[&[R]],
    ) -> Result<Self> {
        let bleu = Bleu {
            tokenizer: words,
            lowercase,
            ..Bleu::default()
        };
        let chrf = Chrf {
            lowercase,
            ..Chrf::default()
        };
        Ok(Scores {
            bleu: bleu.corpus(hypotheses, references)?,
            chrf: chrf.corpus(hypotheses, references)?,
        })
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bleu, chrf) = (&self.bleu, &self.chrf);
        writeln!(f, "{bleu}\n  {}", bleu.signature())?;
        write!(f, "{chrf}\n  {}", chrf.signature())
    }
}
