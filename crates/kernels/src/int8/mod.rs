//! Matrix products in bytes, for inference: `C = activation(A · B + …)`.
//!
//! A's rows are quantized on the fly ([`QuantizedRows`]), B's columns once ([`PackedInt8`]), both symmetrically. The
//! sums over k are integers, hence exact in any order; each output then is
//! `activation(fma(sum as f32, scale[row] · scale[column], addend))`. (With [`Int8Scales::WithoutOutlier`] the row's largest
//! number times its row of B is added before the activation.) So it depends on its row of A and its column of B
//! alone: not on the number of rows, nor on the instruction set.
//!
//! B is stored in the order in which it is read. A panel of it meets all rows before the next one, so that each of its
//! bytes comes from memory once, which is what bounds decoding; while it does, the next panel is asked for.

mod bytes;
mod outliers;
mod pack;
mod quantize;
#[cfg(test)]
mod tests;
mod tile;

use std::cell::RefCell;
use std::ops::Range;

use crate::epilogue::{Epilogue, activate_in_place};
use crate::matrix::{Matrix, MatrixMut, Plus};
use crate::panels::{GROUP, LINES, PANEL};
use outliers::add_rows;
use tile::{Shape, Tile, run_tile, words};

pub use outliers::Int8Scales;
pub use pack::{PackedInt8, StoredInt8};
pub use quantize::QuantizedRows;
pub(crate) use quantize::{Scale, largest_magnitude, quantize_into};

thread_local! {
    /// The quantized A of [`gemm_int8`], kept from call to call.
    static QUANTIZED: RefCell<QuantizedRows> = RefCell::default();
}

/// `C = activation(A · B + …)`, with A quantized first.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_int8(c: MatrixMut, a: Matrix, b: &PackedInt8, epilogue: Epilogue) {
    QUANTIZED.with_borrow_mut(|quantized| {
        quantized.quantize_for(b, &a);
        gemm_int8_quantized(c, quantized, b, epilogue);
    });
}

/// [`gemm_int8`] of one A by several B, as where one input has several projections: A is quantized once, but for a B
/// whose rows have scales of their own.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_int8_all<'a>(
    a: Matrix,
    products: impl IntoIterator<Item = (MatrixMut<'a>, &'a PackedInt8, Epilogue<'a>)>,
) {
    QUANTIZED.with_borrow_mut(|quantized| {
        let mut is_quantized = false;
        for (c, b, epilogue) in products {
            if !is_quantized || !b.row_scales().is_empty() {
                quantized.quantize_for(b, &a);
                is_quantized = true;
            }
            gemm_int8_quantized(c, quantized, b, epilogue);
        }
    });
}

/// [`gemm_int8`] with rows that are quantized already, for B or for another one with the same scales of its rows.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_int8_quantized(c: MatrixMut, a: &QuantizedRows, b: &PackedInt8, epilogue: Epilogue) {
    b.multiply_columns(0..b.columns(), c, a, epilogue);
}

impl QuantizedRows {
    /// Replaces what is held by the rows of `a`, as `b` is to be multiplied by them. Memory is asked for only where more is
    /// needed than ever before.
    pub fn quantize_for(&mut self, b: &PackedInt8, a: &Matrix) {
        self.quantize(b.isa, a, b.by, (&b.row_scales, b.kernel.row_layout()));
    }
}

impl PackedInt8 {
    /// [`gemm_int8_quantized`] for some of B's columns: C holds these alone, `[a.rows(), columns.len()]`, and a bias is
    /// that of these alone. Threads can so share one product.
    ///
    /// # Panics
    /// The shapes do not fit, or `columns` begins or ends elsewhere than at a multiple of [`PackedInt8::PANEL`] or at
    /// the last column.
    pub fn multiply_columns(
        &self,
        columns: Range<usize>,
        c: MatrixMut,
        a: &QuantizedRows,
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
    a: &'a QuantizedRows,
    b: &'a PackedInt8,
    c: MatrixMut<'a>,
    epilogue: Epilogue<'a>,
}

impl Product<'_> {
    fn run(mut self) {
        let shape = self.b.kernel.shape(self.a.rows(), self.b.groups());
        #[cfg(target_arch = "x86_64")]
        let _registers = shape.registers();
        for first in self.columns.clone().step_by(PANEL) {
            let end = (first + PANEL).min(self.columns.end);
            // All rows by one panel, or by one half of it and then by the other: it stays in the nearest cache.
            for column in (first..end).step_by(shape.columns) {
                let n = (end - column).min(shape.columns);
                for row in (0..self.a.rows()).step_by(shape.rows) {
                    self.tile(shape, row, (column, n));
                }
            }
            self.add_outliers(first, end);
            if let Some(activation) = self.epilogue.activation {
                let start = first - self.columns.start;
                for row in 0..self.c.rows {
                    let out = &mut self.c.data[row * self.c.row_stride + start..][..end - first];
                    activate_in_place(self.b.isa, out, activation);
                }
            }
        }
    }

    /// Adds what the rows' outliers make of the columns of one panel.
    fn add_outliers(&mut self, first: usize, end: usize) {
        let (a, b) = (self.a, self.b);
        if a.outliers().is_empty() {
            return;
        }
        let columns = first - self.columns.start..end - self.columns.start;
        let lines = b.groups() * LINES;
        let panel = &b.panels[first / PANEL * lines..][..lines];
        let scales = &b.scales[first..first + PANEL];
        add_rows(b.isa, &mut self.c, columns, a.outliers(), panel, scales);
    }

    /// The tile of the rows from `row` and the `n` columns from `column` on.
    fn tile(&mut self, shape: Shape, row: usize, (column, n): (usize, usize)) {
        let (a, b, c) = (self.a, self.b, &mut self.c);
        let m = (a.rows() - row).min(shape.rows);
        let groups = b.groups();
        let c_start = row * c.row_stride + column - self.columns.start;
        // The tile's part of each slice; a slice that is too short panics here.
        let a_rows = &a.bytes()[row * a.stride()..(row + shape.rows_read(m)) * a.stride()];
        let layout = b.kernel.row_layout();
        assert!(a.layout() == layout && groups * layout.group_bytes() <= a.stride());
        let panel = &b.panels[column / PANEL * groups * LINES..][..groups * LINES];
        let part = column..column + shape.columns;
        let (b_scales, starts) = (&b.scales[part.clone()], &b.starts[part]);
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
        // Each tile asks for its share of the next panel, so that memory is not idle while several tiles read this one.
        // (Asked for by the reading itself, halves of panels came at half of the bandwidth.)
        let next_step = shape.columns * GROUP / shape.vectors() / a.rows().div_ceil(shape.rows);
        let tiles_before =
            column % PANEL / shape.columns * a.rows().div_ceil(shape.rows) + row / shape.rows;
        let next = panel.as_ptr_range().end.cast::<u8>();
        let next = next.wrapping_add(tiles_before * groups * shape.vectors() * next_step);
        let tile = Tile {
            n,
            groups,
            a: a_rows.as_ptr(),
            a_stride: a.stride(),
            a_scales: a.scales()[row..row + m].as_ptr(),
            b: words(panel).wrapping_add(column % PANEL),
            b_scales: b_scales.as_ptr(),
            starts: starts.as_ptr(),
            c: c_pointer,
            c_stride: c.row_stride,
            addend,
            addend_stride,
            next,
            next_step,
        };
        // SAFETY: the slices above show that the rows of A that are read with `groups` groups each, the panel's `groups` groups
        // of 64 columns (and the shape's columns from `column % PANEL` on are among the 64), the shape's columns in scales
        // and starts, n numbers of the bias and m rows of n in C all exist; C comes from a unique borrow and its rows
        // do not overlap; m is at most the shape's rows, the shape is the kernel's, and its registers are
        // held (see `run`).
        unsafe { run_tile(b.kernel, shape, m, &tile) };
    }
}
