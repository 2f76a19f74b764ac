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
