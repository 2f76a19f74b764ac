//! Rotary positions: queries and keys turned by angles that grow with their position (Su et al. 2021, section 3.2).

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use hexapla_kernels::rotate;

use crate::config::RotaryConfig;
use crate::ops::{Run, Step};
use crate::tape::{Backward, keep};
use crate::tensor::{Node, Tensor};

/// Positions whose angles are computed together, when one of them is needed.
const TOGETHER: usize = 256;

/// The cosines and sines of every position.
#[derive(Debug)]
pub struct Turns {
    frequencies: Vec<f64>,
    magnitude: f64,
    /// For each run of positions `[positions, cosines then sines]`.
    tables: Vec<OnceLock<Vec<f32>>>,
}

impl Turns {
    /// Of `positions` positions: pair j is turned by position · `frequencies[j]`. The angles are computed in f64.
    pub fn new(config: &RotaryConfig, positions: usize) -> Self {
        Turns {
            frequencies: config.frequencies(),
            magnitude: config.magnitude(),
            tables: vec![OnceLock::new(); positions.div_ceil(TOGETHER)],
        }
    }

    fn of(&self, position: u32) -> &[f32] {
        let (run, row) = (position as usize / TOGETHER, position as usize % TOGETHER);
        let table = self.tables[run].get_or_init(|| {
            let positions = run * TOGETHER..(run + 1) * TOGETHER;
            positions.flat_map(|position| self.row(position)).collect()
        });
        let width = 2 * self.frequencies.len();
        &table[row * width..][..width]
    }

    fn row(&self, position: usize) -> Vec<f32> {
        let angles = self.frequencies.iter().map(|f| position as f64 * f);
        let cosines = angles.clone().map(libm::cos);
        let numbers = cosines.chain(angles.map(libm::sin));
        numbers.map(|n| (n * self.magnitude) as f32).collect()
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
    run.share_rows(
        (x.rows(), columns),
        [(y.data_mut(), columns)],
        |rows, [y]| {
            y.copy_from_slice(x.rows_data(rows.clone()));
            for (row, position) in y.chunks_exact_mut(columns).zip(&positions[rows]) {
                rotate(isa, row, head_width, turns.of(*position), false);
            }
        },
    );
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
    use crate::config::RotaryScaling;
    use crate::ops::check::Check;

    fn turns(base: f64, width: usize) -> Turns {
        let config = RotaryConfig {
            base,
            width,
            scaling: RotaryScaling::None,
        };
        Turns::new(&config, 300)
    }

    #[test]
    fn gradients_are_slopes() {
        // All of a head, and its first four numbers alone.
        for width in [6, 4] {
            let turns = Arc::new(turns(100.0, width));
            let mut check = Check::new();
            let x = check.input(4, 12);
            check.run(|run, inputs| rotary(run, &inputs[x], 6, &turns, &[0, 1, 7, 299]));
        }
    }

    #[test]
    fn scores_depend_on_distances_alone() {
        let turns = turns(10_000.0, 8);
        let mut random = crate::random::SplitMix(3);
        let (q, k): (Vec<f32>, Vec<f32>) =
            (0..8).map(|_| (random.normal(), random.normal())).unzip();
        let score = |at_q: u32, at_k: u32| -> f32 {
            let turned = |x: &[f32], position| {
                let mut x = x.to_vec();
                let isa = hexapla_kernels::Isa::best();
                rotate(isa, &mut x, 8, turns.of(position), false);
                x
            };
            let (q, k) = (turned(&q, at_q), turned(&k, at_k));
            q.iter().zip(&k).map(|(q, k)| q * k).sum()
        };
        for (a, b) in [((5, 2), (93, 90)), ((7, 7), (0, 0)), ((1, 40), (260, 299))] {
            assert!((score(a.0, a.1) - score(b.0, b.1)).abs() < 1e-4);
        }
        assert!((score(5, 2) - score(2, 5)).abs() > 1e-3);
    }
}
