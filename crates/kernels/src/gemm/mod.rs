//! Matrix products with sums in f32: `C (+)= A · B (+ bias)`, with a packed B `C = activation(A · B + …)` too.
//!
//! In f32, each output is one chain of fused multiply-adds over k in ascending order, starting from 0 (or from C), with the bias
//! added last. Blocking over k stores and reloads the chain and does not change it. So an output depends on its row of A
//! and its column of B alone: not on the number of rows, the instruction set, or the blocking.
//!
//! In bf16 ([`gemm_bf16`]), A and B are rounded to bf16 while they are packed. What holds for f32 then holds for the rounded
//! numbers on every instruction set that lacks a bf16 product. A set that has one sums the products of two neighbouring k
//! in its own order and takes denormal numbers for zero: its outputs differ from the others' by the rounding of f32 sums,
//! and depend on their row of A and their column of B alone as before.
//!
//! The blocking is Goto's: a panel of B (`KC × NR`) and a block of A (`MC × KC`) stay in the second cache. A tile reads B
//! from there faster than it multiplies, and the longer it goes on the less often are its sums stored and loaded again.

mod layout;
mod packed;
mod pairs;
mod panels;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::cell::RefCell;

use crate::buffer::Buffer;
use crate::epilogue::{Epilogue, activate_in_place};
use crate::isa::Isa;
use crate::matrix::{Matrix, MatrixMut, Plus};
use layout::{Format, MR, tile_rows, tile_width};
use panels::{pack_a, pack_b};
use tile::{Tile, run_tile};

pub use packed::PackedMatrix;

/// Rows of A in a packed block.
const MC: usize = 256;
/// Columns of B in a packed block (a multiple of every tile's width).
const NC: usize = 768;
/// Products with at most this many numbers in B are computed from B as it lies.
const SMALL_B: usize = 64 * 64;

thread_local! {
    /// Packed blocks of A and B, kept from call to call.
    static SCRATCH: RefCell<(Buffer, Buffer)> = RefCell::default();
}

/// `C (+)= A · B`.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm(isa: Isa, c: MatrixMut, a: Matrix, b: Matrix, plus: Plus) {
    let product = Product::new((isa, Format::F32), c, a, (b.rows, b.columns), plus.into());
    SCRATCH.with_borrow_mut(|(pack_a, pack_b)| {
        if b.column_stride == 1 && (b.rows * b.columns <= SMALL_B || product.a.rows <= MR) {
            product.run(B::Direct(b), pack_a);
        } else {
            product.run_packing(b, pack_a, pack_b);
        }
    });
}

/// `C (+)= A · B` with A and B rounded to bf16 (to nearest, ties to even) and sums in f32. It is made for the large
/// products of training: small ones are faster in f32.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_bf16(isa: Isa, c: MatrixMut, a: Matrix, b: Matrix, plus: Plus) {
    let format = Format::bf16(isa);
    let product = Product::new((isa, format), c, a, (b.rows, b.columns), plus.into());
    SCRATCH.with_borrow_mut(|(pack_a, pack_b)| product.run_packing(b, pack_a, pack_b));
}

/// [`gemm`] with a packed B, or [`gemm_bf16`] where B is packed in bf16.
///
/// # Panics
/// The shapes do not fit.
pub fn gemm_packed(c: MatrixMut, a: Matrix, b: &PackedMatrix, epilogue: Epilogue) {
    let product = Product::new((b.isa, b.format), c, a, (b.rows, b.columns), epilogue);
    let panels = B::Packed {
        panels: &b.panels,
        rows: b.rows,
    };
    SCRATCH.with_borrow_mut(|(pack_a, _)| product.run(panels, pack_a));
}

/// [`gemm_packed`] for some of B's columns: C holds these alone, and a bias is that of these alone. Threads can so share one
/// product.
///
/// # Panics
/// The shapes do not fit, or `columns` begins elsewhere than with a panel; one begins at each multiple of
/// [`PackedInt8::PANEL`](crate::PackedInt8::PANEL), whatever the instruction set.
pub fn gemm_packed_columns(
    c: MatrixMut,
    a: Matrix,
    b: &PackedMatrix,
    columns: std::ops::Range<usize>,
    epilogue: Epilogue,
) {
    let width = tile_width(b.isa);
    assert!(
        columns.end <= b.columns && columns.start.is_multiple_of(width),
        "columns {columns:?} do not begin with a panel"
    );
    let product = Product::new((b.isa, b.format), c, a, (b.rows, columns.len()), epilogue);
    let start = columns.start / width * b.format.words(b.rows) * width;
    let panels = B::Packed {
        panels: &b.panels[start..],
        rows: b.rows,
    };
    SCRATCH.with_borrow_mut(|(pack_a, _)| product.run(panels, pack_a));
}

/// Where B's panels lie.
#[derive(Clone, Copy)]
enum B<'a> {
    /// In a matrix whose columns are one apart.
    Direct(Matrix<'a>),
    /// In panels of the tile's width over `rows` k.
    Packed { panels: &'a [f32], rows: usize },
}

/// One product under way.
struct Product<'a> {
    isa: Isa,
    format: Format,
    a: Matrix<'a>,
    c: MatrixMut<'a>,
    epilogue: Epilogue<'a>,
}

/// A part of a product: rows, columns and k.
#[derive(Clone, Copy)]
struct Block {
    rows: (usize, usize),
    columns: (usize, usize),
    k: (usize, usize),
}

impl<'a> Product<'a> {
    /// A product with a B of `b_shape`.
    ///
    /// # Panics
    /// The shapes do not fit.
    fn new(
        (isa, format): (Isa, Format),
        c: MatrixMut<'a>,
        a: Matrix<'a>,
        b_shape: (usize, usize),
        epilogue: Epilogue<'a>,
    ) -> Self {
        assert_eq!(a.columns, b_shape.0, "inner sizes differ");
        assert_eq!(
            (c.rows, c.columns),
            (a.rows, b_shape.1),
            "C has another shape than A·B"
        );
        if let Plus::Bias(bias) = epilogue.plus {
            assert_eq!(
                bias.len(),
                c.columns,
                "the bias has another length than C's rows"
            );
        }
        Product {
            isa,
            format,
            a,
            c,
            epilogue,
        }
    }

    /// Multiplies by a B whose panels can be read where they lie.
    fn run(mut self, b: B, pack: &mut Buffer) {
        let (n, k) = (self.c.columns, self.a.columns);
        for k0 in (0..k.max(1)).step_by(self.format.block()) {
            let k1 = (k0 + self.format.block()).min(k);
            self.rows(
                b,
                Block {
                    rows: (0, 0),
                    columns: (0, n),
                    k: (k0, k1),
                },
                (0, 0),
                pack,
            );
        }
    }

    /// Multiplies by any B, packing it block by block.
    fn run_packing(mut self, b: Matrix, pack_a: &mut Buffer, pack: &mut Buffer) {
        let (n, k) = (self.c.columns, self.a.columns);
        let width = tile_width(self.isa);
        for n0 in (0..n).step_by(NC) {
            let n1 = (n0 + NC).min(n);
            for k0 in (0..k.max(1)).step_by(self.format.block()) {
                let k1 = (k0 + self.format.block()).min(k);
                pack.resize((n1 - n0).div_ceil(width) * self.format.words(k1 - k0) * width);
                pack_b((self.isa, self.format), pack, b, (k0, k1), (n0, n1));
                let block = Block {
                    rows: (0, 0),
                    columns: (n0, n1),
                    k: (k0, k1),
                };
                self.rows(
                    B::Packed {
                        panels: pack,
                        rows: k1 - k0,
                    },
                    block,
                    (k0, n0),
                    pack_a,
                );
            }
        }
    }

    /// All rows of one block of columns and k. `origin` is the (k, column) at which B's panels begin.
    fn rows(&mut self, b: B, block: Block, origin: (usize, usize), pack: &mut Buffer) {
        let m = self.a.rows;
        let k = self.format.words(block.k.1 - block.k.0);
        // Rows that lie in one piece are read where they are, one cache line of each for 16 steps of k. Others are packed
        // where several tiles read them again.
        let packing = self.format != Format::F32
            || self.a.column_stride != 1
                && m > MR
                && (block.columns.1 - block.columns.0) > 2 * tile_width(self.isa);
        for m0 in (0..m).step_by(MC) {
            let m1 = (m0 + MC).min(m);
            if packing {
                pack.resize((m1 - m0).next_multiple_of(self.format.panel_rows()) * k);
                pack_a((self.isa, self.format), pack, self.a, (m0, m1), block.k);
            }
            let packed = packing.then_some(&**pack);
            self.tiles(
                b,
                packed,
                Block {
                    rows: (m0, m1),
                    ..block
                },
                origin,
            );
        }
    }

    /// The tiles of one block.
    fn tiles(&mut self, b: B, packed_a: Option<&[f32]>, block: Block, origin: (usize, usize)) {
        #[cfg(target_arch = "x86_64")]
        if let (Format::Tiles, B::Packed { panels, rows }, Some(a)) = (self.format, b, packed_a) {
            return self.amx_tiles((panels, rows), a, block, origin);
        }
        let width = tile_width(self.isa);
        let k = self.format.words(block.k.1 - block.k.0);
        let rows = tile_rows(self.isa);
        let first = block.k.0 == 0;
        let last = block.k.1 == self.a.columns;
        for n0 in (block.columns.0..block.columns.1).step_by(width) {
            let n = (block.columns.1 - n0).min(width);
            let (b_data, b_start, b_stride) = match b {
                B::Direct(m) => (m.data, block.k.0 * m.row_stride + n0, m.row_stride),
                B::Packed { panels, rows } => {
                    let panel = (n0 - origin.1) / width;
                    // Blocks begin at an even k, so no pair is cut.
                    let before = self.format.words(block.k.0 - origin.0);
                    let start = (panel * self.format.words(rows) + before) * width;
                    (panels, start, width)
                }
            };
            let bias = match self.epilogue.plus {
                Plus::Bias(bias) if last => bias[n0..n0 + n].as_ptr(),
                _ => std::ptr::null(),
            };
            // While this panel is multiplied, the next one comes: its first tiles ask for an equal share of it each.
            let panel_end = match b {
                B::Packed { panels, rows } => {
                    let next = b_start + self.format.words(rows) * width;
                    panels.as_ptr().wrapping_add(next).cast::<u8>()
                }
                B::Direct(m) => m.data.as_ptr().cast(),
            };
            let askers = match b {
                B::Packed { .. } => (block.rows.1 - block.rows.0).div_ceil(rows).clamp(2, 8),
                B::Direct(_) => 0,
            };
            for (number, m0) in (block.rows.0..block.rows.1).step_by(rows).enumerate() {
                let m = (block.rows.1 - m0).min(rows);
                let next_step = if number < askers {
                    width * size_of::<f32>() / askers
                } else {
                    0
                };
                let (a_data, a_start, a_rows, a_columns) = match packed_a {
                    Some(packed) => {
                        let row = m0 - block.rows.0;
                        (packed, row / MR * MR * k + row % MR, 1, MR)
                    }
                    None => {
                        let start = m0 * self.a.row_stride + block.k.0 * self.a.column_stride;
                        (self.a.data, start, self.a.row_stride, self.a.column_stride)
                    }
                };
                let c_start = m0 * self.c.row_stride + n0;
                if k > 0 {
                    let a_last = a_start + (m - 1) * a_rows + (k - 1) * a_columns;
                    let b_last = b_start + (k - 1) * b_stride + n - 1;
                    assert!(a_last < a_data.len() && b_last < b_data.len());
                }
                assert!(c_start + (m - 1) * self.c.row_stride + n <= self.c.data.len());
                let tile = Tile {
                    k,
                    a: a_data[a_start.min(a_data.len())..].as_ptr(),
                    a_rows,
                    a_columns,
                    b: b_data[b_start.min(b_data.len())..].as_ptr(),
                    b_rows: b_stride,
                    c: self.c.data[c_start..].as_mut_ptr(),
                    c_rows: self.c.row_stride,
                    n,
                    load_c: !first || self.epilogue.plus == Plus::C,
                    bias,
                    next: panel_end.wrapping_add(number * k * next_step),
                    next_step,
                };
                // SAFETY: the asserts above show that the last element that a tile of m rows, n columns and k steps
                // touches lies in each slice (the strides are not negative, so all others do too); the bias is n long;
                // `c` comes from a unique borrow; the `Isa` proves the instruction set, and `Format::Pairs` is chosen
                // only where it has bf16 products.
                unsafe { run_tile(self.isa, self.format, m, &tile) };
            }
            if last {
                self.activate(block.rows, (n0, n0 + n));
            }
        }
    }

    /// Applies the epilogue's activation to finished outputs.
    fn activate(&mut self, rows: (usize, usize), columns: (usize, usize)) {
        let Some(activation) = self.epilogue.activation else {
            return;
        };
        for row in rows.0..rows.1 {
            let out = &mut self.c.data[row * self.c.row_stride..][columns.0..columns.1];
            activate_in_place(self.isa, out, activation);
        }
    }
}
