//! BLEU and chrF with sacreBLEU's definitions, so that a score here can stand beside a published one; the alignment error rate; and
//! the calibration of a model's confidence.
//!
//! Each BLEU and chrF carries the signature that sacreBLEU prints for the same settings. The version in it is
//! [`SACREBLEU_VERSION`]: the release whose values the tests compare with.

pub mod alignment;
pub mod bleu;
pub mod calibration;
pub mod chrf;
mod scores;
pub mod tokenize;

use std::collections::HashMap;
use std::hash::Hash;

pub use bleu::{Bleu, BleuScore, Smoothing};
pub use chrf::{Chrf, ChrfScore};
pub use scores::Scores;
pub use tokenize::Tokenizer;

use crate::error::{Error, Result};

/// The sacreBLEU release whose values are reproduced, as it stands in every signature.
pub const SACREBLEU_VERSION: &str = "2.6.0";

/// How often each run of `n` neighbours occurs in `items`.
fn count_ngrams<T: Hash + Eq>(items: &[T], n: usize) -> HashMap<&[T], u64> {
    let mut counts = HashMap::new();
    for ngram in items.windows(n) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}

/// Text as sacreBLEU compares it when asked to ignore case.
fn fold_case(text: &str, lowercase: bool) -> String {
    if lowercase {
        text.to_lowercase()
    } else {
        text.to_owned()
    }
}

/// Checks that there is something to score, and that every stream of references is as long as the hypotheses.
fn check_streams<S>(metric: &str, hypotheses: usize, references: &[&[S]]) -> Result<()> {
    let refuse = |expected: String, found: String| {
        Err(Error::settings(format!("cannot compute {metric}"))
            .expected(expected)
            .found(found))
    };
    if hypotheses == 0 {
        return refuse("at least one hypothesis".into(), "none".into());
    }
    if references.is_empty() {
        return refuse("at least one stream of references".into(), "none".into());
    }
    for (number, stream) in references.iter().enumerate() {
        if stream.len() != hypotheses {
            return refuse(
                format!("{hypotheses} references, one for each hypothesis"),
                format!("{} in reference stream {}", stream.len(), number + 1),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_must_be_as_long_as_the_hypotheses() {
        let (two, one) = (["a", "b"], ["a"]);
        assert!(check_streams("BLEU", 2, &[&two[..]]).is_ok());
        let e = check_streams("BLEU", 2, &[&two[..], &one[..]]).unwrap_err();
        assert!(e.to_string().contains("1 in reference stream 2"), "{e}");
        assert!(check_streams::<&str>("BLEU", 2, &[]).is_err());
        assert!(check_streams::<&str>("BLEU", 0, &[&[]]).is_err());
    }

    #[test]
    fn ngrams_are_counted_with_repetition() {
        let counts = count_ngrams(&["a", "b", "a", "b"], 2);
        assert_eq!(counts[&["a", "b"][..]], 2);
        assert_eq!(counts[&["b", "a"][..]], 1);
        assert!(count_ngrams(&["a"], 2).is_empty());
    }
}
