//! A factor packed once, for many products.

use super::layout::{Format, tile_width};
use super::panels::pack_b;
use crate::buffer::Buffer;
use crate::isa::Isa;
use crate::matrix::Matrix;

/// A matrix B packed once, for many products in f32 or in bf16.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    pub(super) isa: Isa,
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Panels of `tile_width` columns: all rows of the first, then of the second …; the last is filled with zeros.
    pub(super) panels: Buffer,
}

impl PackedMatrix {
    /// Packs `b` for products in f32 with the instruction set `isa`.
    pub fn new(isa: Isa, b: Matrix) -> Self {
        Self::with_format(isa, Format::F32, b)
    }

    /// Rounds `b` to bf16 and packs it: products with it are those of [`gemm_bf16`](super::gemm_bf16).
    pub fn bf16(isa: Isa, b: Matrix) -> Self {
        Self::with_format(isa, Format::bf16(isa), b)
    }

    fn with_format(isa: Isa, format: Format, b: Matrix) -> Self {
        let mut packed = Self::empty(isa, format, b.rows, b.columns);
        packed.repack(b);
        packed
    }

    /// Zeros, to be filled by [`PackedMatrix::set_columns`]; with `bf16`, in bf16.
    pub fn zeros(isa: Isa, bf16: bool, rows: usize, columns: usize) -> Self {
        let format = if bf16 { Format::bf16(isa) } else { Format::F32 };
        Self::empty(isa, format, rows, columns)
    }

    fn empty(isa: Isa, format: Format, rows: usize, columns: usize) -> Self {
        let width = tile_width(isa);
        let words = columns
            .div_ceil(width)
            .checked_mul(width)
            .and_then(|columns| columns.checked_mul(format.words(rows)))
            .expect("a matrix larger than memory");
        PackedMatrix {
            isa,
            format,
            rows,
            columns,
            panels: Buffer::zeros(words),
        }
    }

    /// Packs the columns from `start` on, as many as `b` has.
    ///
    /// # Panics
    /// The shapes do not fit, or `start` is not where a panel begins; one begins at each multiple of
    /// [`PackedInt8::PANEL`](crate::PackedInt8::PANEL), whatever the instruction set.
    pub fn set_columns(&mut self, start: usize, b: Matrix) {
        let width = tile_width(self.isa);
        assert!(b.rows == self.rows && start + b.columns <= self.columns);
        assert!(
            start.is_multiple_of(width),
            "{start} is not where a panel begins"
        );
        let from = start / width * self.format.words(self.rows) * width;
        let how = (self.isa, self.format);
        pack_b(
            how,
            &mut self.panels[from..],
            b,
            (0, b.rows),
            (0, b.columns),
        );
    }

    /// Packs other numbers of the same shape in place.
    ///
    /// # Panics
    /// `b` has another shape.
    pub fn repack(&mut self, b: Matrix) {
        assert_eq!(
            (b.rows, b.columns),
            (self.rows, self.columns),
            "another shape"
        );
        let how = (self.isa, self.format);
        pack_b(how, &mut self.panels, b, (0, b.rows), (0, b.columns));
    }

    /// Rows of B: the inner size of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        self.panels.capacity() * 4
    }

    /// Column `j` of B (as rounded), to `out`, which holds as many numbers as B has rows.
    ///
    /// # Panics
    /// There is no such column, or `out` has another length.
    pub fn column(&self, j: usize, out: &mut [f32]) {
        assert!(j < self.columns && out.len() == self.rows);
        let width = tile_width(self.isa);
        let words = self.format.words(self.rows);
        let panel = &self.panels[j / width * words * width..][..words * width];
        for (word, k) in panel[j % width..].iter().step_by(width).zip(0..) {
            match self.format {
                Format::F32 | Format::Rounded => out[k] = *word,
                _ => {
                    let bits = word.to_bits();
                    let pair = [bits << 16, bits & 0xFFFF_0000].map(f32::from_bits);
                    // Of what is filled up with zeros, no row is B's.
                    for (out, number) in out.iter_mut().skip(2 * k).zip(pair) {
                        *out = number;
                    }
                }
            }
        }
    }

    /// Columns of B: the width of a product.
    pub fn columns(&self) -> usize {
        self.columns
    }
}
