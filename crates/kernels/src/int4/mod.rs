//! Matrix products with weights of four bits, for inference: `C = activation(A · B + …)`.
//!
//! Of both factors 32 numbers along k share a scale: a weight is `scale · (nibble − 8)`, an activation `scale · byte`. The sum over 32
//! k is an integer, hence exact; each output is the chain `c = fma(sum as f32, scale_of_a · scale_of_b, c)` over the groups of 32 in
//! order, from 0, and then `activation(c + addend)`. So it depends on its row of A and its column of B alone: not on the number of
//! rows, nor on the instruction set.
//!
//! What bounds decoding is the memory that weights take: 4.5 bits each.

mod nibbles;
mod pack;
mod rows;
#[cfg(test)]
mod tests;
mod tile;

use std::cell::RefCell;
use std::ops::Range;

use crate::epilogue::{Epilogue, activate_in_place};
use crate::matrix::{Matrix, MatrixMut, Plus};
use crate::panels::{Line, PANEL};
use tile::{Shape, Tile, run_tile};

pub use pack::PackedInt4;
pub use rows::Int4Rows;

/// k whose numbers share a scale.
const GROUP: usize = 32;
/// Lines of nibbles of a group in a panel: for each 16 columns, for each 8 k.
const NIBBLE_LINES: usize = PANEL / 16 * 4;
/// Those and the 64 scales, in bf16.
const LINES: usize = NIBBLE_LINES + 2;

thread_local! {
    /// The quantized A of [`gemm_int4_all`], kept from call to call.
    static QUANTIZED: RefCell<Int4Rows> = RefCell::default();
}

/// `C = activation(A · B + …)` of one A by several B: A is quantized once.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_int4_all<'a>(
    a: Matrix,
    products: impl IntoIterator<Item = (MatrixMut<'a>, &'a PackedInt4, Epilogue<'a>)>,
) {
    QUANTIZED.with_borrow_mut(|quantized| {
        let mut is_quantized = false;
        for (c, b, epilogue) in products {
            if !is_quantized {
                quantized.quantize_for(b, &a);
                is_quantized = true;
            }
            b.multiply_columns(0..b.columns(), c, quantized, epilogue);
        }
    });
}

impl PackedInt4 {
    /// `C = activation(A · B + …)` for some of B's columns: C holds these alone, `[a.rows(), columns.len()]`, and a bias is
    /// that of these alone. Threads can so share one product.
    ///
    /// # Panics
    /// The shapes do not fit, or `columns` begins or ends elsewhere than at a multiple of
    /// [`PackedInt8::PANEL`](crate::PackedInt8::PANEL) or at the last column.
    pub fn multiply_columns(
        &self,
        columns: Range<usize>,
        c: MatrixMut,
        a: &Int4Rows,
        epilogue: Epilogue,
    ) {
        assert_eq!(a.columns(), self.rows(), "inner sizes differ");
        assert_eq!(
            (c.rows, c.columns),
            (a.rows(), columns.len()),
            "C has another shape than A·B"
        );
        assert!(
            columns.end <= self.columns()
                && columns.start.is_multiple_of(PANEL)
                && (columns.end.is_multiple_of(PANEL) || columns.end == self.columns()),
            "columns {columns:?} are not whole panels"
        );
        if let Plus::Bias(bias) = epilogue.plus {
            assert_eq!(
                bias.len(),
                c.columns,
                "the bias has another length than C's rows"
            );
        }
        let product = Product {
            columns,
            a,
            b: self,
            c,
            epilogue,
        };
        product.run();
    }
}

/// One product under way, whose shapes fit.
struct Product<'a> {
    /// The columns of B that C holds.
    columns: Range<usize>,
    a: &'a Int4Rows,
    b: &'a PackedInt4,
    c: MatrixMut<'a>,
    epilogue: Epilogue<'a>,
}

impl Product<'_> {
    fn run(mut self) {
        let shape = self.b.kernel.shape(self.a.rows());
        for first in self.columns.clone().step_by(PANEL) {
            let end = (first + PANEL).min(self.columns.end);
            // All rows by one panel, or by one half of it and then by the other: it stays in the nearest cache.
            for column in (first..end).step_by(shape.columns) {
                let n = (end - column).min(shape.columns);
                for row in (0..self.a.rows()).step_by(shape.rows) {
                    self.tile(shape, row, (column, n));
                }
            }
            if let Some(activation) = self.epilogue.activation {
                let start = first - self.columns.start;
                for row in 0..self.c.rows {
                    let out = &mut self.c.data[row * self.c.row_stride + start..][..end - first];
                    activate_in_place(self.b.isa, out, activation);
                }
            }
        }
    }

    /// The tile of the rows from `row` and the `n` columns from `column` on.
    fn tile(&mut self, shape: Shape, row: usize, (column, n): (usize, usize)) {
        let (a, b, c) = (self.a, self.b, &mut self.c);
        let m = (a.rows() - row).min(shape.rows);
        let groups = b.groups();
        let c_start = row * c.row_stride + column - self.columns.start;
        // The tile's part of each slice; a slice that is too short panics here.
        assert!(a.is_widened() == b.kernel.is_widened() && a.groups() == groups);
        let a_rows = &a.bytes()[row * a.stride()..(row + m) * a.stride()];
        let of_groups = row * groups..(row + m) * groups;
        let (scales, starts) = (&a.scales()[of_groups.clone()], &a.starts()[of_groups]);
        let panel: &[Line] = &b.panels[column / PANEL * groups * LINES..][..groups * LINES];
        assert!(column % PANEL + shape.columns <= PANEL);
        let c_rows = &mut c.data[c_start..][..(m - 1) * c.row_stride + n];
        let c_pointer = c_rows.as_mut_ptr();
        let (addend, addend_stride) = match self.epilogue.plus {
            Plus::Nothing => (std::ptr::null(), 0),
            Plus::C => (c_pointer.cast_const(), c.row_stride),
            Plus::Bias(bias) => {
                let start = column - self.columns.start;
                (bias[start..start + n].as_ptr(), 0)
            }
        };
        let tile = Tile {
            n,
            groups,
            first: column % PANEL,
            a: a_rows.as_ptr(),
            a_stride: a.stride(),
            a_scales: scales.as_ptr(),
            a_starts: starts.as_ptr(),
            b: panel.as_ptr(),
            c: c_pointer,
            c_stride: c.row_stride,
            addend,
            addend_stride,
        };
        // SAFETY: the slices above show that m rows of A with `groups` groups each, their scales and starts, the panel's `groups`
        // groups of 64 columns (and the shape's columns from `first` on are among the 64), n numbers of the bias and m rows of n
        // in C all exist; C comes from a unique borrow and its rows do not overlap; m is at most the shape's rows, and the shape
        // is the kernel's.
        unsafe { run_tile(b.kernel, shape, m, &tile) };
    }
}
