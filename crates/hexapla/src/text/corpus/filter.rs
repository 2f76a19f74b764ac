//! Which pairs training uses, and why the others are left out.

use std::collections::HashSet;
use std::fmt;

use super::SentencePairs;
use crate::config::DataTable;

/// A pair whose longer side has no more tokens than this may have any ratio: `Hi!` against five words is no error.
const RATIO_FROM: usize = 10;

/// Lengths of each pair's sides in tokens.
#[derive(Debug, Clone, Copy)]
pub struct TokenLengths<'a> {
    /// Of the sources.
    pub source: &'a [usize],
    /// Of the targets.
    pub target: &'a [usize],
}

/// How many pairs each filter removed. A pair counts for the first that applies, in the order of the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterReport {
    /// Pairs before.
    pub total: usize,
    /// Pairs that stay.
    pub kept: usize,
    /// A side is empty or white space, or gives no token.
    pub empty: usize,
    /// The pair stands earlier in the data.
    pub duplicate: usize,
    /// A side has more tokens than `max_tokens`.
    pub too_long: usize,
    /// One side has more than `max_ratio` times the tokens of the other.
    pub ratio: usize,
}

/// Most characters that a token stands for on an average: a side with more than so many times `max_tokens` is too long whatever
/// the tokenizer.
const MAX_TOKEN_CHARS: usize = 16;
/// A pair is compared with the corpus's own ratio of characters, and so much more is allowed than `max_ratio`: tokens are not
/// known yet.
const RATIO_MARGIN: f64 = 1.5;
/// A pair whose longer side has no more characters than this may have any ratio.
const RATIO_FROM_CHARS: usize = 60;

/// The numbers among `numbers` of the pairs that a tokenizer is trained on: those that are not so long, or so unequal, that no
/// tokenizer would let them pass the filters. What is left out of training is not to fill its vocabulary.
pub fn learnable(pairs: &SentencePairs, numbers: &[usize], limits: &DataTable) -> Vec<usize> {
    let characters = |i: &usize| {
        let count = |side: &[String]| side.get(*i).map_or(0, |text| text.chars().count());
        (count(&pairs.source), count(&pairs.target))
    };
    let lengths: Vec<(usize, usize)> = numbers.iter().map(characters).collect();
    // The middle one of the pairs: a few long ones cannot move it.
    let mut ratios: Vec<f64> = lengths
        .iter()
        .map(|(source, target)| (*source).max(1) as f64 / (*target).max(1) as f64)
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let usual = ratios.get(ratios.len() / 2).copied().unwrap_or(1.0);
    let most = f64::from(limits.max_ratio) * RATIO_MARGIN;
    let fits = |&(source, target): &(usize, usize)| {
        let longer = source.max(target);
        let ratio = source.max(1) as f64 / target.max(1) as f64 / usual;
        longer <= limits.max_tokens.saturating_mul(MAX_TOKEN_CHARS)
            && (longer <= RATIO_FROM_CHARS || ratio.max(1.0 / ratio) <= most)
    };
    let both = numbers.iter().zip(&lengths);
    both.filter(|(_, lengths)| fits(lengths))
        .map(|(i, _)| *i)
        .collect()
}

/// The numbers of the pairs that `limits` lets pass, in order. Without lengths, length and ratio are not looked at (to choose
/// the text that a tokenizer is trained on).
pub fn select(
    pairs: &SentencePairs,
    lengths: Option<TokenLengths>,
    limits: &DataTable,
) -> (Vec<usize>, FilterReport) {
    let mut report = FilterReport {
        total: pairs.len(),
        ..Default::default()
    };
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for (number, pair) in pairs.iter().enumerate() {
        let tokens = lengths.map(|lengths| {
            let of = |side: &[usize]| side.get(number).copied().unwrap_or(0);
            (of(lengths.source), of(lengths.target))
        });
        let (shorter, longer) = tokens.map_or((1, 1), |(s, t)| (s.min(t), s.max(t)));
        let reason = if pair.0.trim().is_empty() || pair.1.trim().is_empty() || shorter == 0 {
            &mut report.empty
        } else if limits.remove_duplicates && !seen.insert(pair) {
            &mut report.duplicate
        } else if longer > limits.max_tokens {
            &mut report.too_long
        } else if longer > RATIO_FROM && longer as f32 > limits.max_ratio * shorter as f32 {
            &mut report.ratio
        } else {
            kept.push(number);
            &mut report.kept
        };
        *reason += 1;
    }
    (kept, report)
}

impl fmt::Display for FilterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kept {} of {} pairs", self.kept, self.total)?;
        let reasons = [
            ("empty", self.empty),
            ("duplicate", self.duplicate),
            ("too long", self.too_long),
            ("length ratio", self.ratio),
        ];
        let removed: Vec<String> = reasons
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        match removed.is_empty() {
            true => write!(f, "; none removed"),
            false => write!(f, "; removed: {}", removed.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_learns_from_what_can_pass() {
        let long = "x".repeat(5000);
        let unequal = "many words ".repeat(30);
        let mut rows = vec![("a short line", "一行"); 9];
        rows.extend([(long.as_str(), long.as_str()), (&unequal, "一")]);
        rows.extend([
            ("Hi!", "这是一个很短的句子，不会太长。"),
            (&unequal, "许多的词".repeat(15).leak()),
        ]);
        let pairs = SentencePairs {
            source: rows.iter().map(|r| r.0.into()).collect(),
            target: rows.iter().map(|r| r.1.into()).collect(),
            ..Default::default()
        };
        let numbers: Vec<usize> = (0..rows.len()).collect();
        let kept = learnable(&pairs, &numbers, &DataTable::default());
        assert_eq!(kept, [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12]);
    }

    #[test]
    fn each_pair_is_counted_once_for_the_first_reason() {
        let rows = [
            ("a", "b"),
            (" ", "b"),
            ("a", "b"),
            ("c", "d"),
            ("e", "f"),
            ("g", "h"),
            ("i", "j"),
        ];
        let pairs = SentencePairs {
            source: rows.iter().map(|r| r.0.into()).collect(),
            target: rows.iter().map(|r| r.1.into()).collect(),
            ..Default::default()
        };
        let limits = DataTable {
            max_tokens: 50,
            max_ratio: 4.0,
            ..Default::default()
        };
        let lengths = TokenLengths {
            source: &[3, 9, 3, 51, 11, 2, 12],
            target: &[3, 9, 3, 50, 2, 10, 3],
        };
        let (kept, report) = select(&pairs, Some(lengths), &limits);
        assert_eq!(kept, [0, 5, 6]);
        assert_eq!(
            report.to_string(),
            "kept 3 of 7 pairs; removed: 1 empty, 1 duplicate, 1 too long, 1 length ratio"
        );
        let (kept, report) = select(
            &pairs,
            None,
            &DataTable {
                remove_duplicates: false,
                ..limits
            },
        );
        assert_eq!((kept.len(), report.empty), (6, 1));
    }
}
