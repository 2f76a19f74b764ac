//! Weights as bytes, laid out in the order in which a product reads them.

use super::quantize::{Scale, largest_magnitude, magnitude_bits, quantize_into, quantized};
use super::tile::Kernel;
use crate::gemm::Matrix;
use crate::isa::{Isa, multiversion};

/// Columns of a panel.
pub(super) const PANEL: usize = 64;
/// k in a group: what one instruction multiplies and sums.
pub(super) const GROUP: usize = 4;
/// Columns in a line.
const LINE: usize = 16;
/// Lines in a panel for each group of k.
pub(super) const LINES: usize = PANEL / LINE;
/// Rows of a weight at most: a product's sum is at most 128 · 127 · 2¹⁷ < 2³¹. Sums on the way to it, which hold the
/// activations' offset too, may wrap: in arithmetic modulo 2³² the result is right all the same.
const MAX_ROWS: usize = 1 << 17;

/// One cache line: for each of 16 columns the 4 weights of a group of k, the first in the lowest byte.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; LINE]);

/// A weight B `[k, n]` as signed bytes with one scale for each column, packed once for many products.
///
/// `b[k, j] ≈ scale[j] · byte[k, j]` with `scale[j] = max |b[:, j]| / 127` and each number rounded to the nearest, ties
/// to even. A column of zeros has scale 0; a column that holds an infinity or NaN has scale NaN, so that its products
/// are NaN. One copy of the bytes is kept: n and k are filled up with zeros to multiples of
/// [`PANEL`](PackedInt8::PANEL) and 4.
#[derive(Debug, Clone)]
pub struct PackedInt8 {
    pub(super) isa: Isa,
    pub(super) kernel: Kernel,
    rows: usize,
    columns: usize,
    /// Panels of 64 columns; in each, for each group of 4 k, 4 lines.
    pub(super) panels: Vec<Line>,
    /// One for each column, filled up to whole panels.
    pub(super) scales: Vec<f32>,
    /// −128 · Σₖ byte (modulo 2³²), one for each column, filled up to whole panels: what a sum starts from, as
    /// activations are stored with 128 added.
    pub(super) starts: Vec<i32>,
}

impl PackedInt8 {
    /// Columns of a panel: where a product may be cut ([`multiply_columns`](PackedInt8::multiply_columns)).
    pub const PANEL: usize = PANEL;

    /// Quantizes and packs `b` `[k, n]`. Fast where its rows or its columns are contiguous.
    ///
    /// # Panics
    /// `b` has more than 131 072 rows (a sum might not fit 32 bits).
    pub fn new(isa: Isa, b: Matrix) -> Self {
        let mut packed = Self::empty(isa, b.rows, b.columns);
        if b.rows == 0 || b.columns == 0 {
            return packed;
        }
        if b.column_stride == 1 {
            packed.fill_by_rows(b);
        } else {
            packed.fill_by_columns(0, b);
        }
        packed
    }

    /// Packs a weight that is quantized already: `values` is `[n, k]`, one column's weights together, and `scales` is
    /// `[n]`: `b[k, j] = scales[j] · values[j, k]`. −128 is allowed.
    ///
    /// # Panics
    /// The number of values is no multiple of the number of scales, or k is above 131 072.
    pub fn from_quantized(isa: Isa, values: &[i8], scales: &[f32]) -> Self {
        let columns = scales.len();
        let rows = values.len().checked_div(columns).unwrap_or(0);
        assert_eq!(
            rows * columns,
            values.len(),
            "{} values do not make {columns} columns",
            values.len()
        );
        let mut packed = Self::empty(isa, rows, columns);
        packed.scales[..columns].copy_from_slice(scales);
        let mut column = vec![0u8; rows.next_multiple_of(GROUP)];
        for (j, values) in values.chunks_exact(rows.max(1)).enumerate() {
            for (byte, value) in column.iter_mut().zip(values) {
                *byte = *value as u8;
            }
            packed.place(j, &column);
        }
        packed
    }

    /// Zeros, to be filled by [`PackedInt8::set_columns`].
    ///
    /// # Panics
    /// As [`PackedInt8::new`].
    pub fn zeros(isa: Isa, rows: usize, columns: usize) -> Self {
        Self::empty(isa, rows, columns)
    }

    /// Quantizes and packs the columns from `start` on, as many as `b` has. Fast where they are contiguous.
    ///
    /// # Panics
    /// The shapes do not fit.
    pub fn set_columns(&mut self, start: usize, b: Matrix) {
        assert!(b.rows == self.rows && start + b.columns <= self.columns);
        self.fill_by_columns(start, b);
    }

    fn empty(isa: Isa, rows: usize, columns: usize) -> Self {
        assert!(rows <= MAX_ROWS, "a weight of {rows} rows is too tall");
        let panels = columns.div_ceil(PANEL);
        PackedInt8 {
            isa,
            kernel: Kernel::new(isa),
            rows,
            columns,
            panels: vec![Line([0; LINE]); panels * rows.div_ceil(GROUP) * LINES],
            scales: vec![0.0; panels * PANEL],
            starts: vec![0; panels * PANEL],
        }
    }

    /// For a `b` whose columns are contiguous, or nothing is.
    fn fill_by_columns(&mut self, first: usize, b: Matrix) {
        let mut gathered = Vec::new();
        let mut bytes = vec![0u8; b.rows.next_multiple_of(GROUP)];
        for j in 0..b.columns {
            let start = j * b.column_stride;
            let column = if b.row_stride == 1 {
                &b.data[start..start + b.rows]
            } else {
                gathered.clear();
                gathered.extend((0..b.rows).map(|k| b.data[start + k * b.row_stride]));
                &gathered
            };
            let s = Scale::new(largest_magnitude(self.isa, column));
            self.scales[first + j] = s.scale;
            quantize_into(self.isa, &mut bytes, column, s.inverse, 0);
            self.place(first + j, &bytes);
        }
    }

    /// Column `j` of B (as rounded), to `out`, which holds as many numbers as B has rows.
    ///
    /// # Panics
    /// There is no such column, or `out` has another length.
    pub fn column(&self, j: usize, out: &mut [f32]) {
        assert!(j < self.columns && out.len() == self.rows);
        let lines = self.groups() * LINES;
        let panel = &self.panels[j / PANEL * lines..][..lines];
        let (line, lane) = (j % PANEL / LINE, j % LINE);
        let words = panel[line..].iter().step_by(LINES).map(|l| l.0[lane]);
        for (out, word) in out.chunks_mut(GROUP).zip(words) {
            for (out, byte) in out.iter_mut().zip(word.to_le_bytes()) {
                *out = f32::from(byte as i8) * self.scales[j];
            }
        }
    }

    /// Lays out column `j`, whose bytes are filled up to whole groups.
    fn place(&mut self, j: usize, bytes: &[u8]) {
        let lines = self.groups() * LINES;
        let panel = &mut self.panels[j / PANEL * lines..][..lines];
        let (line, place) = (j % PANEL / LINE, j % LINE);
        for (lines, group) in panel.chunks_exact_mut(LINES).zip(bytes.chunks_exact(GROUP)) {
            lines[line].0[place] = u32::from_le_bytes([group[0], group[1], group[2], group[3]]);
        }
        let sum: i32 = bytes.iter().map(|b| i32::from(*b as i8)).sum();
        self.starts[j] = sum.wrapping_mul(-128);
    }

    /// For a `b` whose rows are contiguous.
    fn fill_by_rows(&mut self, b: Matrix) {
        let mut magnitudes = vec![0; b.columns];
        column_magnitudes(self.isa, &mut magnitudes, b);
        let mut inverses = vec![0.0; self.scales.len()];
        for ((scale, inverse), bits) in self.scales.iter_mut().zip(&mut inverses).zip(magnitudes) {
            let s = Scale::new(bits);
            (*scale, *inverse) = (s.scale, s.inverse);
        }
        let lines = self.groups() * LINES;
        let panels = self.panels.chunks_exact_mut(lines);
        let columns = inverses
            .chunks_exact(PANEL)
            .zip(self.starts.chunks_exact_mut(PANEL));
        for ((p, panel), (inverses, starts)) in panels.enumerate().zip(columns) {
            interleave(self.isa, panel, b, p * PANEL, inverses, starts);
        }
    }

    /// Rows of B: the inner size of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of B: the width of a product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One scale for each column.
    pub fn scales(&self) -> &[f32] {
        &self.scales[..self.columns]
    }

    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.panels) + size_of_val(&*self.scales) + size_of_val(&*self.starts)
    }

    /// Groups of k.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }
}

multiversion! {
    /// The bits of the largest magnitude of each column, for contiguous rows. `largest` starts as zeros.
    fn column_magnitudes(largest: &mut [u32], b: Matrix) -> () {
        for k in 0..b.rows {
            let row = &b.data[k * b.row_stride..][..b.columns];
            for (largest, v) in largest.iter_mut().zip(row) {
                *largest = (*largest).max(magnitude_bits(*v));
            }
        }
    }
}

multiversion! {
    /// Quantizes the 64 columns of `b` from `first` on into one panel, for contiguous rows; `starts` starts as zeros.
    fn interleave(panel: &mut [Line], b: Matrix, first: usize, inverses: &[f32], starts: &mut [i32]) -> () {
        let count = (b.columns - first).min(PANEL);
        let (inverses, starts) = (&inverses[..PANEL], &mut starts[..PANEL]);
        for (group, lines) in panel.chunks_exact_mut(LINES).enumerate() {
            // The group's rows, filled up with zeros.
            let mut four = [[0.0f32; PANEL]; GROUP];
            for (k, row) in (group * GROUP..b.rows).zip(&mut four) {
                row[..count].copy_from_slice(&b.data[k * b.row_stride + first..][..count]);
            }
            for (l, line) in lines.iter_mut().enumerate() {
                for (i, word) in line.0.iter_mut().enumerate() {
                    let j = l * LINE + i;
                    let q: [u32; GROUP] = std::array::from_fn(|t| quantized(four[t][j], inverses[j]));
                    *word = q[0] | q[1] << 8 | q[2] << 16 | q[3] << 24;
                    let sum: i32 = q.iter().map(|q| i32::from(*q as u8 as i8)).sum();
                    starts[j] = starts[j].wrapping_sub(128 * sum);
                }
            }
        }
    }
}

#[cfg(test)]
impl PackedInt8 {
    /// The byte of row `k` and column `j`.
    pub(super) fn value(&self, k: usize, j: usize) -> i8 {
        let line = (j / PANEL * self.groups() + k / GROUP) * LINES + j % PANEL / LINE;
        self.panels[line].0[j % LINE].to_le_bytes()[k % GROUP] as i8
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::numbers;
    use super::*;

    fn same(a: &PackedInt8, b: &PackedInt8) -> bool {
        let words = |p: &PackedInt8| p.panels.iter().flat_map(|l| l.0).collect::<Vec<_>>();
        let bits = |p: &PackedInt8| p.scales.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
        words(a) == words(b) && bits(a) == bits(b) && a.starts == b.starts
    }

    #[test]
    fn every_layout_and_instruction_set_packs_the_definition() {
        for (k, n) in [
            (1, 1),
            (4, 64),
            (7, 65),
            (130, 100),
            (33, 3),
            (0, 5),
            (5, 0),
        ] {
            let mut data = numbers(k * n, 3);
            if n > 2 {
                data.iter_mut().skip(1).step_by(n).for_each(|v| *v = 0.0);
            }
            let mut turned = vec![0.0; k * n];
            let mut apart = vec![9.0; 2 * k * n];
            for i in 0..k {
                for j in 0..n {
                    turned[j * k + i] = data[i * n + j];
                    apart[2 * (j * k + i)] = data[i * n + j];
                }
            }
            let largest = |j: usize| (0..k).fold(0.0f32, |m, i| m.max(data[i * n + j].abs()));
            let mut values = vec![0i8; k * n];
            for j in 0..n {
                let inverse = if largest(j) == 0.0 {
                    0.0
                } else {
                    127.0 / largest(j)
                };
                for i in 0..k {
                    values[j * k + i] = (data[i * n + j] * inverse).round_ties_even() as i8;
                }
            }
            let scales: Vec<f32> = (0..n).map(|j| largest(j) / 127.0).collect();
            for isa in Isa::available() {
                let expected = PackedInt8::new(isa, Matrix::new(&data, k, n, n));
                assert_eq!(expected.scales(), scales);
                for j in 0..n {
                    let column = &values[j * k..(j + 1) * k];
                    let found: Vec<i8> = (0..k).map(|i| expected.value(i, j)).collect();
                    assert_eq!(column, found);
                    let sum: i32 = column.iter().map(|v| i32::from(*v)).sum();
                    assert_eq!(expected.starts[j], -128 * sum);
                }
                let by_columns = Matrix::new(&turned, n, k, k).transposed();
                assert!(same(&expected, &PackedInt8::new(isa, by_columns)));
                let scattered = Matrix {
                    data: &apart,
                    rows: k,
                    columns: n,
                    row_stride: 2,
                    column_stride: 2 * k,
                };
                assert!(same(&expected, &PackedInt8::new(isa, scattered)));
                if k > 0 {
                    assert!(same(
                        &expected,
                        &PackedInt8::from_quantized(isa, &values, &scales)
                    ));
                }
            }
        }
    }

    #[test]
    fn a_weight_that_is_not_finite_marks_its_column() {
        let mut data = numbers(20 * 10, 1);
        data[5 * 10 + 3] = f32::INFINITY;
        data[6 * 10 + 4] = f32::NAN;
        for b in [
            Matrix::new(&data, 20, 10, 10),
            Matrix::new(&data, 10, 20, 20).transposed(),
        ] {
            let packed = PackedInt8::new(Isa::best(), b);
            let bad = packed.scales().iter().filter(|s| s.is_nan()).count();
            assert_eq!(bad, 2);
        }
    }

    #[test]
    #[should_panic(expected = "do not make")]
    fn values_must_fit_the_scales() {
        let _ = PackedInt8::from_quantized(Isa::SCALAR, &[0; 7], &[1.0; 2]);
    }
}
