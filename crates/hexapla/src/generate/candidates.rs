//! The best continuations of a sentence's open hypotheses.

use super::log_softmax::{BLOCK, Row};

/// One more token for one open hypothesis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Log-probability of the hypothesis with this token.
    pub(super) total: f32,
    /// Log-probability of the token.
    pub(super) log_prob: f32,
    /// Which open hypothesis.
    pub(super) row: usize,
    /// The token.
    pub(super) token: u32,
}

/// The `limit` best candidates offered so far, best first. Ties: the one offered first.
#[derive(Debug)]
pub(super) struct Candidates {
    limit: usize,
    best: Vec<Candidate>,
}

impl Candidates {
    pub(super) fn new(limit: usize) -> Self {
        Candidates {
            limit,
            best: Vec::with_capacity(limit + 1),
        }
    }

    pub(super) fn clear(&mut self) {
        self.best.clear();
    }

    pub(super) fn as_slice(&self) -> &[Candidate] {
        &self.best
    }

    /// Offers one candidate. A total of −∞ is never taken.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        if candidate.total > self.threshold() {
            let index = self
                .best
                .partition_point(|better| better.total >= candidate.total);
            self.best.insert(index, candidate);
            self.best.truncate(self.limit);
        }
    }

    /// Offers every token as continuation of hypothesis `row`, whose log-probability is `total`.
    ///
    /// Only blocks whose bound reaches the list are looked at: after the first few, almost none does.
    pub(super) fn offer_row(&mut self, row: usize, total: f32, log_probs: &Row) {
        for (block, bound) in log_probs.bounds.iter().enumerate() {
            if total + bound <= self.threshold() {
                continue;
            }
            let first = block * BLOCK;
            for (token, &log_prob) in log_probs.scores.iter().enumerate().skip(first).take(BLOCK) {
                self.offer(Candidate {
                    total: total + log_prob,
                    log_prob,
                    row,
                    token: token as u32,
                });
            }
        }
    }

    /// A new candidate must be better than this.
    fn threshold(&self) -> f32 {
        match self.best.last() {
            Some(worst) if self.best.len() == self.limit => worst.total,
            _ => f32::NEG_INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    #[test]
    fn equals_a_full_sort_with_ties_to_the_earlier() {
        let mut random = SplitMix(1);
        for (rows, vocab, limit) in [
            (1, 5, 8),
            (3, 200, 6),
            (4, 1000, 10),
            (2, 64, 1),
            (2, 65, 64),
        ] {
            // Few distinct values, so that ties are everywhere; some tokens are impossible.
            let table: Vec<Vec<f32>> = (0..rows)
                .map(|_| {
                    let value = |r: &mut SplitMix| match r.below(20) {
                        0 => f32::NEG_INFINITY,
                        n => n as f32 * -0.5,
                    };
                    (0..vocab).map(|_| value(&mut random)).collect()
                })
                .collect();
            let totals: Vec<f32> = (0..rows).map(|r| r as f32 * -0.5).collect();
            let mut found = Candidates::new(limit);
            let mut all = Vec::new();
            for (row, scores) in table.iter().enumerate() {
                let (mut scores, mut bounds) = (scores.clone(), Vec::new());
                let mut bounded = Row {
                    scores: &mut scores,
                    bounds: &mut bounds,
                };
                bounded.bound();
                found.offer_row(row, totals[row], &bounded);
                all.extend(
                    scores
                        .iter()
                        .enumerate()
                        .map(|(token, x)| (totals[row] + x, row, token as u32)),
                );
            }
            all.retain(|c| c.0 > f32::NEG_INFINITY);
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            all.truncate(limit);
            let found: Vec<_> = found
                .as_slice()
                .iter()
                .map(|c| (c.total, c.row, c.token))
                .collect();
            assert_eq!(found, all);
        }
    }
}
