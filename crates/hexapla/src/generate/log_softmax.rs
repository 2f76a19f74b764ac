//! Log-softmax of one row of logits, with the bookkeeping that makes the best entries cheap to find.
//!
//! The kernels sum in a fixed order, so the bits are the same on every machine.

use hexapla_kernels::{Isa, block_max, exp_sum, max, subtract_both};

/// Entries that share one maximum.
pub(super) const BLOCK: usize = 64;

/// One row of scores over the vocabulary, with an upper bound for each [`BLOCK`] of it.
pub(super) struct Row<'a> {
    /// The scores: logits or log-probabilities.
    pub(super) scores: &'a mut [f32],
    /// No score of block `i` is above `bounds[i]`.
    pub(super) bounds: &'a mut Vec<f32>,
}

impl Row<'_> {
    /// Makes the bounds exact; returns the greatest score (−∞ for none, NaN is passed over).
    pub(super) fn bound(&mut self) -> f32 {
        block_max(Isa::best(), self.bounds, self.scores, BLOCK);
        max(Isa::best(), self.bounds)
    }

    /// Turns logits into log-probabilities. `None` where a logit is NaN or +∞, or where all are −∞.
    pub(super) fn log_softmax(&mut self) -> Option<()> {
        let greatest = self.bound();
        let log_sum = log_sum_exp(self.scores, greatest)?;
        // In this order, as torch does it: the bits then differ from torch's only through the sum.
        subtract_both(Isa::best(), self.scores, greatest, log_sum);
        subtract_both(Isa::best(), self.bounds, greatest, log_sum);
        Some(())
    }

    /// Changes one score.
    pub(super) fn set(&mut self, token: u32, score: f32) {
        let token = token as usize;
        self.scores[token] = score;
        let bound = &mut self.bounds[token / BLOCK];
        *bound = bound.max(score);
    }
}

/// ln Σ exp(row − greatest). `None` where that is not a finite number.
pub(crate) fn log_sum_exp(row: &[f32], greatest: f32) -> Option<f32> {
    if !greatest.is_finite() {
        return None;
    }
    let sum = exp_sum(Isa::best(), row, greatest);
    Some(libm::log(f64::from(sum)) as f32).filter(|log| log.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    #[test]
    fn log_softmax_equals_its_definition() {
        let mut random = SplitMix(3);
        for length in [1, 2, 15, 16, 17, 63, 64, 65, 1000, 32_000] {
            let logits: Vec<f32> = (0..length).map(|_| 8.0 * random.normal() + 30.0).collect();
            let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
            let mut scores = logits.clone();
            let mut bounds = Vec::new();
            let mut row = Row {
                scores: &mut scores,
                bounds: &mut bounds,
            };
            row.log_softmax().unwrap();
            for (block, bound) in scores.chunks(BLOCK).zip(&bounds) {
                assert_eq!(
                    block.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                    *bound
                );
            }
            for (score, logit) in scores.iter().zip(&logits) {
                let exact = f64::from(*logit) - sum.ln();
                assert!((f64::from(*score) - exact).abs() < 4e-6, "{score} {exact}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_found_in_every_place() {
        let mut bounds = Vec::new();
        for length in [1, 7, 16, 100] {
            for index in 0..length {
                for wrong in [f32::NAN, f32::INFINITY, -f32::NAN] {
                    let mut scores = vec![0.5; length];
                    scores[index] = wrong;
                    let mut row = Row {
                        scores: &mut scores,
                        bounds: &mut bounds,
                    };
                    assert!(
                        row.log_softmax().is_none(),
                        "{wrong} at {index} of {length}"
                    );
                }
            }
        }
        for mut scores in [vec![], vec![f32::NEG_INFINITY; 40]] {
            let mut row = Row {
                scores: &mut scores,
                bounds: &mut bounds,
            };
            assert!(row.log_softmax().is_none());
        }
    }

    #[test]
    fn impossible_tokens_are_allowed() {
        let mut scores = vec![f32::NEG_INFINITY, 2.0, f32::NEG_INFINITY];
        let mut bounds = Vec::new();
        Row {
            scores: &mut scores,
            bounds: &mut bounds,
        }
        .log_softmax()
        .unwrap();
        assert_eq!(scores, [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY]);
    }
}
