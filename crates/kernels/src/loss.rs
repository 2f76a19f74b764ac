//! The loss of a row of logits, and its gradient.

use crate::isa::multiversion;
use crate::math::exp_small;
use crate::sums::{lane_dot, lane_max, lane_sum, lane_sum_of};

/// One row of logits and what to do with it.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy {
    /// The right id.
    pub label: usize,
    /// ε: the label gets 1 − ε, and ε is spread evenly over the whole vocabulary (paper, section 5.4).
    pub label_smoothing: f32,
    /// What the gradient is multiplied by (1 / tokens of the step).
    pub scale: f32,
}

/// The loss of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowLoss {
    /// Label-smoothed cross-entropy.
    pub smoothed: f32,
    /// −ln p(label).
    pub negative_log_likelihood: f32,
}

/// A row of logits made into e^(logit − max), and what its loss is made of.
struct Exponentials {
    /// Σ e^(logit − max).
    sum: f32,
    /// ln Σ e^logit.
    log_sum: f32,
    loss: RowLoss,
}

#[inline(always)]
fn exponentials(logits: &mut [f32], options: CrossEntropy) -> Exponentials {
    let max = lane_max(logits);
    let at_label = logits[options.label];
    let sum_of_logits = lane_sum(logits, |_, v| v);
    let sum = lane_sum_of(logits, |v| exp_small(v - max));
    // By way of f64, in whose last bits the systems' libraries may differ.
    let log_sum = max + f64::from(sum).ln() as f32;
    let negative_log_likelihood = log_sum - at_label;
    let mean = log_sum - sum_of_logits / logits.len() as f32;
    Exponentials {
        sum,
        log_sum,
        loss: RowLoss {
            smoothed: (1.0 - options.label_smoothing) * negative_log_likelihood
                + options.label_smoothing * mean,
            negative_log_likelihood,
        },
    }
}

multiversion! {
    /// Loss of one row of logits, and its gradient in place of the logits: `scale · (softmax − target distribution)`.
    pub fn cross_entropy_row(logits: &mut [f32], options: CrossEntropy) -> RowLoss {
        let row = exponentials(logits, options);
        let even = options.label_smoothing / logits.len() as f32;
        let factor = options.scale / row.sum;
        let offset = -options.scale * even;
        for v in logits.iter_mut() {
            *v = v.mul_add(factor, offset);
        }
        logits[options.label] -= options.scale * (1.0 - options.label_smoothing);
        row.loss
    }
}

multiversion! {
    /// Losses of two rows of logits, p and q, for one label, with R-Drop's term between them, `alpha / 2 · (KL(p‖q) +
    /// KL(q‖p))` (Liang et al. 2021, equations 2 to 4), which is shared between the two. The gradients take the logits'
    /// place. `difference` has room for one row.
    pub fn cross_entropy_pair(
        first: &mut [f32],
        second: &mut [f32],
        difference: &mut [f32],
        options: CrossEntropy,
        alpha: f32,
    ) -> [RowLoss; 2] {
        let second = &mut second[..first.len()];
        let difference = &mut difference[..first.len()];
        for ((d, a), b) in difference.iter_mut().zip(first.iter()).zip(second.iter()) {
            *d = a - b;
        }
        let (p, q) = (exponentials(first, options), exponentials(second, options));
        // ln p − ln q is the difference less this.
        let shift = p.log_sum - q.log_sum;
        let p_to_q = lane_dot(first, difference) / p.sum - shift;
        let q_to_p = shift - lane_dot(second, difference) / q.sum;
        let even = options.label_smoothing / first.len() as f32;
        let weight = options.scale * alpha / 2.0;
        let (p_factor, q_factor) = (1.0 / p.sum, 1.0 / q.sum);
        for ((a, b), d) in first.iter_mut().zip(second.iter_mut()).zip(difference.iter()) {
            let (p, q, log_ratio) = (*a * p_factor, *b * q_factor, d - shift);
            *a = options.scale * (p - even) + weight * (p * (log_ratio - p_to_q) + p - q);
            *b = options.scale * (q - even) + weight * (q * (-log_ratio - q_to_p) + q - p);
        }
        let at_label = options.scale * (1.0 - options.label_smoothing);
        first[options.label] -= at_label;
        second[options.label] -= at_label;
        let share = alpha / 4.0 * (p_to_q + q_to_p);
        [p.loss, q.loss].map(|loss| RowLoss {
            smoothed: loss.smoothed + share,
            ..loss
        })
    }
}
