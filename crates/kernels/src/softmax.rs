//! Softmax of rows, and its gradient.

use std::ops::Range;

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

/// Which columns of a table each of its rows sees: row r stands at column r + `offset`, and sees `behind` columns before that
/// one and `ahead` after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visible {
    /// Columns before that of the first row, as a prefix that has no row.
    pub offset: usize,
    /// How far back a row sees.
    pub behind: usize,
    /// How far on.
    pub ahead: usize,
}

impl Visible {
    /// Every row sees every column.
    pub const ALL: Visible = Visible {
        offset: 0,
        behind: usize::MAX,
        ahead: usize::MAX,
    };
    /// The mask of a decoder: a row sees the columns up to its own.
    pub const CAUSAL: Visible = Visible {
        ahead: 0,
        ..Visible::ALL
    };

    /// The columns that row `r` sees of so many.
    #[inline(always)]
    pub fn columns(self, r: usize, columns: usize) -> Range<usize> {
        let own = r + self.offset;
        let end = own
            .saturating_add(self.ahead)
            .saturating_add(1)
            .min(columns);
        own.saturating_sub(self.behind).min(end)..end
    }
}

multiversion! {
    /// `x = softmax(scale · x)` over the columns that each row of `x` `[rows, columns]` sees, 0 elsewhere (paper, equation 1).
    pub fn softmax_in_place(x: &mut [f32], columns: usize, scale: f32, visible: Visible) -> () {
        for (r, row) in x.chunks_exact_mut(columns.max(1)).enumerate() {
            let seen = visible.columns(r, columns);
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            softmax_row(&mut row[seen], scale);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::numbers;

    #[test]
    fn a_row_sees_what_its_mask_says_and_no_more() {
        let window = |behind, ahead, offset| Visible {
            offset,
            behind,
            ahead,
        };
        assert_eq!(Visible::ALL.columns(3, 7), 0..7);
        assert_eq!(Visible::CAUSAL.columns(3, 7), 0..4);
        assert_eq!(Visible::CAUSAL.columns(9, 7), 0..7);
        assert_eq!(window(2, 0, 4).columns(1, 9), 3..6);
        assert_eq!(window(1, 1, 0).columns(0, 9), 0..2);
        assert_eq!(window(1, 0, 9).columns(0, 3), 3..3);
        let (rows, columns) = (5, 9);
        let x = numbers(rows * columns, 4);
        for visible in [
            Visible::ALL,
            Visible::CAUSAL,
            window(2, 1, 0),
            window(usize::MAX, 0, 4),
            window(3, 0, 4),
            window(0, 0, 20),
        ] {
            let run = |isa| {
                let mut p = x.clone();
                softmax_in_place(isa, &mut p, columns, 0.5, visible);
                p
            };
            let scalar = run(Isa::SCALAR);
            for isa in Isa::available() {
                assert_eq!(run(isa), scalar, "{isa:?}");
            }
            for (r, (p, x)) in scalar.chunks(columns).zip(x.chunks(columns)).enumerate() {
                let own = (r + visible.offset) as i64;
                let sees = |c: usize| {
                    let distance = c as i64 - own;
                    let (behind, ahead) = (visible.behind as u64, visible.ahead as u64);
                    match distance {
                        d if d < 0 => d.unsigned_abs() <= behind,
                        d => d as u64 <= ahead,
                    }
                };
                let power = |c: usize| {
                    if sees(c) {
                        f64::from(0.5 * x[c]).exp()
                    } else {
                        0.0
                    }
                };
                let sum: f64 = (0..columns).map(power).sum();
                for (c, found) in p.iter().enumerate() {
                    let expected = if sum > 0.0 { power(c) / sum } else { 0.0 };
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-6, "{visible:?} {r} {c}");
                }
            }
        }
    }
}
