//! Softmax of rows, and its gradient.

use crate::isa::multiversion;
use crate::math::exp_small;
use crate::sums::{lane_dot, lane_max, lane_sum};

#[inline(always)]
fn softmax_row(x: &mut [f32], scale: f32) {
    let max = lane_max(x);
    for v in x.iter_mut() {
        // The difference first, which is 0 for the largest: in one rounding with the product it would not be.
        *v = exp_small((*v - max) * scale);
    }
    let inverse = 1.0 / lane_sum(x, |_, v| v);
    for v in x.iter_mut() {
        *v *= inverse;
    }
}

multiversion! {
    /// `x = softmax(scale · x)` over each row's first `limit(row)` numbers, 0 behind them (paper, equation 1).
    ///
    /// `x` is `[rows, columns]`; row r sees `columns` numbers, or with `causal` the first `r + 1`.
    pub fn softmax_in_place(x: &mut [f32], columns: usize, scale: f32, causal: bool) -> () {
        for (r, row) in x.chunks_exact_mut(columns.max(1)).enumerate() {
            let seen = if causal { (r + 1).min(columns) } else { columns };
            let (seen, unseen) = row.split_at_mut(seen);
            softmax_row(seen, scale);
            unseen.fill(0.0);
        }
    }
}

multiversion! {
    /// From probabilities `p` and their gradient `d` to the gradient of the scores, in `d`:
    /// `scale · p · (d − Σ p·d)`, row by row of `[rows, columns]`.
    pub fn softmax_backward_in_place(d: &mut [f32], p: &[f32], columns: usize, scale: f32) -> () {
        assert_eq!(d.len(), p.len(), "gradients and probabilities");
        for (d, p) in d.chunks_exact_mut(columns.max(1)).zip(p.chunks_exact(columns.max(1))) {
            let sum = lane_dot(p, d);
            for (d, p) in d.iter_mut().zip(p) {
                *d = scale * p * (*d - sum);
            }
        }
    }
}
