//! What a search returns.

use std::fmt;

/// One output of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// The tokens: without the start token, with the prefix, and with the end token where `finished`.
    pub ids: Vec<u32>,
    /// Whether the end token ended it; otherwise it was cut at its longest length or had no possible next token.
    pub finished: bool,
    /// `log_prob` divided by the number of tokens (`ids.len()`) to the power of the length penalty.
    pub score: f32,
    /// Sum of `token_log_probs`.
    pub log_prob: f32,
    /// Log-probability of each token under the constraints of the search, before any temperature or truncation of
    /// sampling; 0 for a forced one. In beam search a token that the constraints exclude keeps its share of the
    /// probability, in greedy decoding and sampling the others get it (see [`SearchOptions::suppressed_ids`]).
    ///
    /// [`SearchOptions::suppressed_ids`]: super::SearchOptions::suppressed_ids
    pub token_log_probs: Vec<f32>,
    /// Where asked for: for each token, the weights of the source tokens in the step that produced it.
    pub attention: Option<Vec<Vec<f32>>>,
}

impl Hypothesis {
    /// The tokens without the end token.
    pub fn tokens(&self) -> &[u32] {
        &self.ids[..self.ids.len() - usize::from(self.finished)]
    }

    /// Which source token each token (the end token left out) attends to most, among the first `source_length`
    /// source tokens. `None` where the search was not asked for attention.
    pub fn alignment(&self, source_length: usize) -> Option<Alignment> {
        let rows = self.attention.as_deref()?;
        Some(Alignment::from_attention(
            &rows[..rows.len().min(self.tokens().len())],
            source_length,
        ))
    }
}

/// Pairs of source and target tokens. Shown in Pharaoh's format, `0-0 1-2`: source, hyphen, target, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alignment {
    /// Source and target position, in the order of the target.
    pub pairs: Vec<(usize, usize)>,
}

impl Alignment {
    /// For each target token (a row) the first of the first `source_length` source tokens with the greatest weight.
    pub fn from_attention(rows: &[Vec<f32>], source_length: usize) -> Self {
        let pairs = rows.iter().enumerate().filter_map(|(target, weights)| {
            let mut weights = weights.iter().take(source_length).enumerate();
            let first = weights.next()?;
            let greatest = weights.fold(
                first,
                |best, next| if next.1 > best.1 { next } else { best },
            );
            Some((greatest.0, target))
        });
        Alignment {
            pairs: pairs.collect(),
        }
    }
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (source, target)) in self.pairs.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{source}-{target}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignments_are_in_pharaohs_format() {
        let rows = [
            vec![0.1, 0.7, 0.2],
            vec![0.4, 0.4, 0.9],
            vec![0.0, 0.0, 0.0],
        ];
        assert_eq!(
            Alignment::from_attention(&rows, 3).to_string(),
            "1-0 2-1 0-2"
        );
        assert_eq!(
            Alignment::from_attention(&rows, 2).to_string(),
            "1-0 0-1 0-2"
        );
        assert_eq!(Alignment::from_attention(&rows, 0).to_string(), "");
    }

    #[test]
    fn the_end_token_is_not_aligned() {
        let mut hypothesis = Hypothesis {
            ids: vec![5, 6, 0],
            finished: true,
            score: 0.0,
            log_prob: 0.0,
            token_log_probs: vec![0.0; 3],
            attention: Some(vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![0.0, 1.0]]),
        };
        assert_eq!(hypothesis.tokens(), [5, 6]);
        assert_eq!(hypothesis.alignment(2).unwrap().to_string(), "0-0 1-1");
        hypothesis.finished = false;
        assert_eq!(hypothesis.alignment(2).unwrap().to_string(), "0-0 1-1 1-2");
        hypothesis.attention = None;
        assert_eq!(hypothesis.alignment(2), None);
    }
}
