//! Rotary positions: queries and keys turned by angles that grow with their position (Su et al. 2021, section 3.2).

use std::ops::Range;
use std::sync::Arc;

use hexapla_kernels::rotate;

use crate::ops::{Run, Step};
use crate::tape::{Backward, keep};
use crate::tensor::{Node, Tensor};

/// The cosines and sines of every position.
#[derive(Debug, Clone, PartialEq)]
pub struct Turns {
    /// `[positions, cosines then sines]`.
    table: Vec<f32>,
    /// Pairs that are turned in each head.
    pairs: usize,
}

impl Turns {
    /// Of `positions` positions: pair j is turned by position · `frequencies[j]`. The angles are computed in f64.
    pub fn new(frequencies: &[f64], positions: usize) -> Self {
        let angles = |position| frequencies.iter().map(move |f| position as f64 * f);
        let row = |position| {
            let cosines = angles(position).map(|angle| libm::cos(angle) as f32);
            cosines.chain(angles(position).map(|angle| libm::sin(angle) as f32))
        };
        Turns {
            table: (0..positions).flat_map(row).collect(),
            pairs: frequencies.len(),
        }
    }

    /// `base^(−2j/width)` for the pairs of `width` numbers (equation 15).
    pub fn frequencies(base: f64, width: usize) -> Vec<f64> {
        let exponent = |j| -2.0 * j as f64 / width as f64;
        (0..width / 2)
            .map(|j| libm::pow(base, exponent(j)))
            .collect()
    }

    /// Positions that there are angles for.
    pub fn positions(&self) -> usize {
        self.table.len() / (2 * self.pairs).max(1)
    }

    fn of(&self, position: u32) -> &[f32] {
        &self.table[position as usize * 2 * self.pairs..][..2 * self.pairs]
    }
}

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    x: Option<Node>,
    turns: Arc<Turns>,
    head_width: usize,
    /// Where the positions stand in the lists.
    positions: Range<usize>,
    y: Option<Node>,
}

/// Each head of each row of `x` `[rows, heads · head_width]` turned by the angles of the row's position.
///
/// # Panics
/// A position is beyond those of `turns`.
pub fn rotary(
    run: &mut Run,
    x: &Tensor,
    head_width: usize,
    turns: &Arc<Turns>,
    positions: &[u32],
) -> Tensor {
    assert_eq!(x.rows(), positions.len(), "a position for each row");
    let (isa, columns) = (run.isa, x.columns());
    let mut y = run.tensor(x.rows(), columns);
    y.data_mut().copy_from_slice(x.data());
    for (row, position) in y.data_mut().chunks_exact_mut(columns).zip(positions) {
        rotate(isa, row, head_width, turns.of(*position), false);
    }
    run.record(|lists| {
        Step::Rotary(Recorded {
            x: x.node(),
            turns: turns.clone(),
            head_width,
            positions: keep(&mut lists.positions, positions.iter().copied()),
            y: y.node(),
        })
    });
    y
}

impl Recorded {
    /// A turn's gradient is the turn back.
    pub fn backward(self, back: &mut Backward) {
        let Some(mut d) = back.take(self.y) else {
            return;
        };
        let (isa, columns) = (back.isa, d.columns());
        let positions = &back.lists.positions[self.positions];
        for (row, position) in d.data_mut().chunks_exact_mut(columns).zip(positions) {
            rotate(isa, row, self.head_width, self.turns.of(*position), true);
        }
        back.give(self.x, d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_are_slopes() {
        // All of a head, and its first four numbers alone.
        for width in [6, 4] {
            let turns = Arc::new(Turns::new(&Turns::frequencies(100.0, width), 20));
            assert_eq!(turns.positions(), 20);
            let mut check = Check::new();
            let x = check.input(4, 12);
            check.run(|run, inputs| rotary(run, &inputs[x], 6, &turns, &[0, 1, 7, 19]));
        }
    }

    #[test]
    fn scores_depend_on_distances_alone() {
        let turns = Turns::new(&Turns::frequencies(10_000.0, 8), 100);
        let mut random = crate::random::SplitMix(3);
        let (q, k): (Vec<f32>, Vec<f32>) =
            (0..8).map(|_| (random.normal(), random.normal())).unzip();
        let score = |at_q: u32, at_k: u32| -> f32 {
            let turned = |x: &[f32], position| {
                let mut x = x.to_vec();
                rotate(
                    hexapla_kernels::Isa::best(),
                    &mut x,
                    8,
                    turns.of(position),
                    false,
                );
                x
            };
            let (q, k) = (turned(&q, at_q), turned(&k, at_k));
            q.iter().zip(&k).map(|(q, k)| q * k).sum()
        };
        for (a, b) in [((5, 2), (93, 90)), ((7, 7), (0, 0)), ((1, 40), (60, 99))] {
            assert!((score(a.0, a.1) - score(b.0, b.1)).abs() < 1e-4);
        }
        assert!((score(5, 2) - score(2, 5)).abs() > 1e-3);
    }
}
