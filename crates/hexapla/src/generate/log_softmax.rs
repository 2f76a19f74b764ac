//! Log-softmax of one row of logits, with the bookkeeping that makes the best entries cheap to find.
//!
//! Every sum has a fixed order and every operation is IEEE, so the bits are the same on every machine.

/// Entries that share one maximum.
pub(super) const BLOCK: usize = 64;

/// Sums kept side by side.
const LANES: usize = 16;

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
        self.bounds.clear();
        self.bounds.extend(self.scores.chunks(BLOCK).map(maximum));
        maximum(self.bounds)
    }

    /// Turns logits into log-probabilities. `None` where a logit is NaN or +∞, or where all are −∞.
    pub(super) fn log_softmax(&mut self) -> Option<()> {
        let greatest = self.bound();
        let log_sum = log_sum_exp(self.scores, greatest)?;
        // In this order, as torch does it: the bits then differ from torch's only through the sum.
        for value in self.scores.iter_mut().chain(self.bounds.iter_mut()) {
            *value = (*value - greatest) - log_sum;
        }
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
pub(super) fn log_sum_exp(row: &[f32], greatest: f32) -> Option<f32> {
    if !greatest.is_finite() {
        return None;
    }
    let mut sums = [0.0_f32; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += exp(value - greatest);
        }
    }
    for (sum, value) in sums.iter_mut().zip(chunks.remainder()) {
        *sum += exp(value - greatest);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    Some(libm::log(f64::from(sums[0])) as f32).filter(|log| log.is_finite())
}

/// The greatest of these; −∞ for none. NaN is passed over.
fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in values.chunks(LANES) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// e^x for x ≤ 0 to within about 2 units in the last place; 0 below −87 and NaN for NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r is its Taylor polynomial of degree 7 (error r⁸/8! < 6e-9), and 2ⁿ is
/// written into the exponent. Plain multiplications and additions, so that compilers vectorise it and no fused
/// operation changes the bits.
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// The leading bits of ln 2 (few enough that n times them is exact) and the rest.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.0 { -87.0 } else { x };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN_2_HIGH) - n * LN_2_LOW;
    let tail = 1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)));
    let polynomial = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * tail)));
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { polynomial * power }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    #[test]
    fn exp_is_accurate() {
        let mut worst = 0.0_f64;
        for i in 0..870_000 {
            let x = -(i as f32) / 10_000.0;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.5e-7, "{worst}");
        assert_eq!(
            (exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)),
            (1.0, 0.0, 0.0)
        );
        assert!(exp(f32::NAN).is_nan());
    }

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
            for place in 0..length {
                for wrong in [f32::NAN, f32::INFINITY, -f32::NAN] {
                    let mut scores = vec![0.5; length];
                    scores[place] = wrong;
                    let mut row = Row {
                        scores: &mut scores,
                        bounds: &mut bounds,
                    };
                    assert!(
                        row.log_softmax().is_none(),
                        "{wrong} at {place} of {length}"
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
