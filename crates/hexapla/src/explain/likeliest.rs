//! The likeliest tokens of a row of logits.

use crate::generate::log_sum_exp as log_sum_exp_less;

/// The upper end of a distribution over the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Likeliest {
    /// Tokens with their log-probabilities, the likeliest first; of equals the one with the lowest id.
    pub(super) tokens: Vec<(u32, f32)>,
    /// ln Σ exp(logits): a logit less this is a log-probability.
    pub(super) log_sum_exp: f32,
}

/// The `count` likeliest tokens of `logits`.
pub(super) fn likeliest(logits: &[f32], count: usize) -> Likeliest {
    let log_sum_exp = log_sum_exp(logits);
    let tokens = greatest(logits, count);
    Likeliest {
        tokens: tokens
            .into_iter()
            .map(|(id, logit)| (id, logit - log_sum_exp))
            .collect(),
        log_sum_exp,
    }
}

/// The `count` greatest of `numbers` with their indices, the greatest first.
pub(super) fn greatest(numbers: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (index, number) in numbers.iter().enumerate() {
        let is_full = best.len() >= count;
        if is_full && best.last().is_none_or(|last| *number <= last.1) {
            continue;
        }
        let at = best.partition_point(|other| other.1 >= *number);
        best.insert(at, (index as u32, *number));
        best.truncate(count);
    }
    best
}

/// ln Σ exp(x).
pub(super) fn log_sum_exp(numbers: &[f32]) -> f32 {
    let greatest = numbers.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    // Nothing to sum, or nothing finite.
    log_sum_exp_less(numbers, greatest).map_or(greatest, |sum| greatest + sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_and_ties_in_order() {
        let logits = [1.0, 3.0, f32::NEG_INFINITY, 3.0, 2.0];
        let found = likeliest(&logits, 3);
        let ids: Vec<u32> = found.tokens.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 3, 4]);
        let all = likeliest(&logits, 9);
        assert_eq!(all.tokens.len(), 5);
        let sum: f32 = all.tokens.iter().map(|(_, p)| p.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(likeliest(&logits, 0).tokens, []);
        assert_eq!(log_sum_exp(&[]), f32::NEG_INFINITY);
    }
}
