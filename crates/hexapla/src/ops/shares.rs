//! Rows that threads share where they have no other work. That changes no result, since each row is by itself.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::Run;

/// Numbers that are read from which on it is worth waking a thread.
const WORTH: usize = 1 << 16;

impl Run<'_> {
    /// Does `work` for `rows` rows of each of `outs`, which comes with the width of its rows: for all at once, or in shares that
    /// threads do at a time. It is told the rows, and has theirs of each. For a row `numbers` are read.
    pub(super) fn share_rows<const N: usize>(
        &self,
        (rows, numbers): (usize, usize),
        outs: [(&mut [f32], usize); N],
        work: impl Fn(Range<usize>, [&mut [f32]; N]) + Sync,
    ) {
        let threads = rayon::current_num_threads();
        let shared = self.product().alone && threads > 1;
        if !shared || rows < threads || rows * numbers < WORTH {
            return work(0..rows, outs.map(|(out, _)| out));
        }
        let share = rows.div_ceil(threads);
        let mut rest = outs.map(|(out, width)| (Some(out), width));
        let shares = (0..rows).step_by(share).map(|first| {
            let these = first..rows.min(first + share);
            let outs = rest.each_mut().map(|(rest, width)| {
                let all = rest.take().unwrap_or_default();
                let (out, others) = all.split_at_mut(these.len() * *width);
                *rest = Some(others);
                out
            });
            (these, outs)
        });
        let shares: Vec<_> = shares.collect();
        shares
            .into_par_iter()
            .for_each(|(rows, outs)| work(rows, outs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;
    use crate::tensor::Arena;

    #[test]
    fn every_row_is_done_once() {
        let arena = Arena::default();
        let mut check = Check::new();
        check.parameter(&[1]);
        let packed = crate::packed::PackedWeights::new(&check.weights(), Default::default());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        let rows_of = |rows: usize, alone: bool| {
            let run = Run::inference(&arena, &packed).alone(alone);
            let (mut a, mut b) = (vec![0.0; rows * 1024], vec![0.0; rows]);
            let outs = [(&mut *a, 1024), (&mut *b, 1)];
            run.share_rows((rows, 1024), outs, |rows, [a, b]| {
                for ((row, a), b) in rows.zip(a.chunks_exact_mut(1024)).zip(b) {
                    a.iter_mut().for_each(|a| *a += row as f32);
                    *b += row as f32;
                }
            });
            (0..rows).all(|row| a[row * 1024 + 7] == row as f32 && b[row] == row as f32)
        };
        pool.unwrap().install(|| {
            for rows in [0, 1, 2, 64, 65, 200] {
                assert!(rows_of(rows, true) && rows_of(rows, false), "{rows}");
            }
        });
    }
}
