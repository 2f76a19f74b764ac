//! What a search returns.

/// One output of a search.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// Where asked for: in the place of each token the likeliest ones with their log-probabilities, counted as those of
    /// `token_log_probs`, the likeliest first; nothing in the place of a forced one.
    pub likeliest: Vec<Vec<(u32, f32)>>,
    /// Where asked for: for each token, the weights of the source tokens in the step that produced it.
    pub attention: Option<Vec<Vec<f32>>>,
}

impl Hypothesis {
    /// The tokens without the end token.
    pub fn tokens(&self) -> &[u32] {
        &self.ids[..self.ids.len() - usize::from(self.finished)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_token_is_no_token_of_the_text() {
        let mut hypothesis = Hypothesis {
            ids: vec![5, 6, 0],
            finished: true,
            score: 0.0,
            log_prob: 0.0,
            token_log_probs: vec![0.0; 3],
            likeliest: Vec::new(),
            attention: None,
        };
        assert_eq!(hypothesis.tokens(), [5, 6]);
        hypothesis.finished = false;
        assert_eq!(hypothesis.tokens(), [5, 6, 0]);
    }
}
