//! A row of a table added to each row: BERT's segments (Devlin et al. 2019, figure 2).

use std::ops::Range;

use hexapla_kernels::{Dropout, residual as add};

use crate::ops::{Run, Step};
use crate::tape::{Backward, keep};
use crate::tensor::{Node, Tensor};
use crate::weights::ParameterId;

/// What the backward step needs.
#[derive(Debug)]
pub struct Recorded {
    x: Option<Node>,
    table: ParameterId,
    /// Where the numbers of the table's rows stand in the lists.
    rows: Range<usize>,
    y: Option<Node>,
}

/// `x + table[row]` for each row of `x` `[rows, width]`; the table is `[any, width]`, and `rows` names one of its rows for each
/// of `x`.
pub fn add_rows(
    run: &mut Run,
    x: &Tensor,
    table: ParameterId,
    rows: impl ExactSizeIterator<Item = u32> + Clone,
) -> Tensor {
    assert_eq!(rows.len(), x.rows(), "a row of the table for each row");
    let width = x.columns();
    let numbers = run.parameters.plain(table);
    let isa = run.isa;
    let mut y = run.tensor(x.rows(), width);
    let sums = y.data_mut().chunks_exact_mut(width);
    for ((sum, row), own) in sums.zip(rows.clone()).zip(x.data().chunks_exact(width)) {
        let row = &numbers[row as usize * width..][..width];
        add(isa, sum, own, row, Dropout::NONE);
    }
    run.show("embedding.with_segments", &mut y);
    run.record(|lists| {
        Step::AddRows(Recorded {
            x: x.node(),
            table,
            rows: keep(&mut lists.positions, rows),
            y: y.node(),
        })
    });
    y
}

impl Recorded {
    /// Each row's gradient goes on to `x`, and is added to its row of the table, in the rows' order.
    pub fn backward(self, back: &mut Backward) {
        let Some(dy) = back.take(self.y) else { return };
        let width = dy.columns();
        let isa = back.isa;
        let rows = &back.lists.positions[self.rows];
        let gradient = back.gradient(self.table);
        for (d, row) in dy.data().chunks_exact(width).zip(rows) {
            hexapla_kernels::add_assign(isa, &mut gradient[*row as usize * width..][..width], d);
        }
        back.give(self.x, dy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::Check;

    #[test]
    fn gradients_are_slopes() {
        let mut check = Check::new();
        let x = check.input(4, 6);
        let table = check.parameter(&[3, 6]);
        check.run(|run, inputs| add_rows(run, &inputs[x], table, [2, 0, 2, 1].into_iter()));
    }
}
