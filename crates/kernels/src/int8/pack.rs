//! Weights as bytes, laid out in the order in which a product reads them.

use super::outliers::Int8Scales;
use super::quantize::{Scale, largest_magnitude, magnitude_bits, quantize_into, quantized};
use super::tile::Kernel;
use crate::isa::{Isa, multiversion};
use crate::matrix::Matrix;
use crate::panels::{GROUP, LINE, LINES, Line, PANEL, Panels};
use crate::shared::SharedBytes;

/// Rows of a weight at most: a product's sum is at most 128 · 127 · 2¹⁷ < 2³¹. Sums on the way to it, which hold the
/// activations' offset too, may wrap: in arithmetic modulo 2³² the result is right all the same.
const MAX_ROWS: usize = 1 << 17;

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
    /// How the rows that it is multiplied by are scaled.
    pub(super) by: Int8Scales,
    /// What each number of such a row is multiplied by before, and what each row of B was divided by; or nothing.
    pub(super) row_scales: Vec<f32>,
    rows: usize,
    columns: usize,
    /// Panels of 64 columns; in each, for each group of 4 k, 4 lines.
    pub(super) panels: Panels,
    /// One for each column, filled up to whole panels.
    pub(super) scales: Vec<f32>,
    /// −128 · Σₖ byte (modulo 2³²), one for each column, filled up to whole panels: what a sum starts from, as
    /// activations are stored with 128 added.
    pub(super) starts: Vec<i32>,
}

/// The parts of a packed weight `[rows, columns]`, to be put together again.
#[derive(Debug, Clone)]
pub struct StoredInt8<'a> {
    /// Rows of B.
    pub rows: usize,
    /// Columns of B.
    pub columns: usize,
    /// As many as [`PackedInt8::stored_shape`] says.
    pub bytes: SharedBytes,
    /// One for each column.
    pub scales: &'a [f32],
    /// One for each column.
    pub starts: &'a [i32],
    /// One for each row, or nothing.
    pub row_scales: &'a [f32],
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

    /// [`new`](PackedInt8::new) with less error: the rows of `b` are brought nearer to one magnitude, so that none of them lies
    /// within the rounding of the others. Each is divided by the square root of its root mean square, by which the numbers that
    /// it meets are multiplied (Xiao et al. 2023, "SmoothQuant", equation 4, where nothing is known of these numbers); and of
    /// these the outliers are taken out ([`Int8Scales::WithoutOutlier`]).
    ///
    /// # Panics
    /// As [`new`](PackedInt8::new).
    pub fn equalized(isa: Isa, b: Matrix) -> Self {
        let mut row_scales: Vec<f32> = (0..b.rows).map(|k| root_mean_square(b, k).sqrt()).collect();
        let sum: f32 = row_scales.iter().sum();
        let mean = sum / b.rows.max(1) as f32;
        if mean > 0.0 && mean.is_finite() {
            // A row of nearly nothing stays as it is.
            let least = mean * 1e-3;
            let scale = |s: &mut f32| *s = if *s > least { *s / mean } else { 1.0 };
            row_scales.iter_mut().for_each(scale);
        } else {
            row_scales.fill(1.0);
        }
        let mut numbers = vec![0.0; b.rows * b.columns];
        for (k, row) in numbers.chunks_exact_mut(b.columns.max(1)).enumerate() {
            let from = b.data[k * b.row_stride..].iter().step_by(b.column_stride);
            row.iter_mut()
                .zip(from)
                .for_each(|(to, x)| *to = x / row_scales[k]);
        }
        let scaled = Matrix::new(&numbers, b.rows, b.columns, b.columns);
        let packed = PackedInt8::new(isa, scaled).scaled_by(Int8Scales::WithoutOutlier);
        PackedInt8 {
            row_scales,
            ..packed
        }
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
            packed.put_column(j, &column);
        }
        packed
    }

    /// The shape of the bytes of a packed weight `[rows, columns]`: panels, groups of k, columns of a panel, k of a group. It
    /// is the same on every machine, so that the bytes can be stored.
    pub fn stored_shape(rows: usize, columns: usize) -> [usize; 4] {
        [columns.div_ceil(PANEL), rows.div_ceil(GROUP), PANEL, GROUP]
    }

    /// A weight that was packed before: what [`stored_bytes`](PackedInt8::stored_bytes),
    /// [`scales`](PackedInt8::scales) and [`starts`](PackedInt8::starts) gave. The bytes are used where they lie, or copied
    /// where they are not aligned to 64.
    ///
    /// Any bytes will do: other ones than were stored give other numbers, and no other harm.
    ///
    /// `None` where a length does not fit the shape or the weight has more than 131 072 rows.
    pub fn from_stored(isa: Isa, stored: StoredInt8) -> Option<Self> {
        let StoredInt8 {
            rows,
            columns,
            bytes,
            scales,
            starts,
            row_scales,
        } = stored;
        let shape = Self::stored_shape(rows, columns);
        let size = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let lengths = (bytes.len(), scales.len(), starts.len());
        let fits = row_scales.is_empty() || row_scales.len() == rows;
        if rows > MAX_ROWS || lengths != (size, columns, columns) || !fits {
            return None;
        }
        let mut filled_scales = vec![0.0; shape[0] * PANEL];
        let mut filled_starts = vec![0; shape[0] * PANEL];
        filled_scales[..columns].copy_from_slice(scales);
        filled_starts[..columns].copy_from_slice(starts);
        Some(PackedInt8 {
            isa,
            kernel: Kernel::new(isa),
            by: Int8Scales::Largest,
            row_scales: row_scales.to_vec(),
            rows,
            columns,
            panels: Panels::from_bytes(bytes),
            scales: filled_scales,
            starts: filled_starts,
        })
    }

    /// The bytes in the order in which products read them, of the shape [`stored_shape`](PackedInt8::stored_shape), as
    /// [`from_stored`](PackedInt8::from_stored) wants them.
    pub fn stored_bytes(&self) -> impl Iterator<Item = [u8; 64]> {
        self.panels.iter().map(Line::bytes)
    }

    /// −128 · Σₖ byte for each column, modulo 2³²: what a sum starts from.
    pub fn starts(&self) -> &[i32] {
        &self.starts[..self.columns]
    }

    /// Zeros, to be filled by [`PackedInt8::set_columns`].
    ///
    /// # Panics
    /// As [`PackedInt8::new`].
    pub fn zeros(isa: Isa, rows: usize, columns: usize) -> Self {
        Self::empty(isa, rows, columns)
    }

    /// How the rows that it is multiplied by are scaled; without this, by their largest magnitude.
    pub fn scaled_by(self, by: Int8Scales) -> Self {
        PackedInt8 { by, ..self }
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
            by: Int8Scales::Largest,
            row_scales: Vec::new(),
            rows,
            columns,
            panels: Panels::Own(vec![Line([0; LINE]); panels * rows.div_ceil(GROUP) * LINES]),
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
            self.put_column(first + j, &bytes);
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
        for (out, scale) in out.iter_mut().zip(&self.row_scales) {
            *out *= scale;
        }
    }

    /// Lays out column `j`, whose bytes are filled up to whole groups.
    fn put_column(&mut self, j: usize, bytes: &[u8]) {
        let lines = self.groups() * LINES;
        let panel = &mut self.panels.own()[j / PANEL * lines..][..lines];
        let (line, lane) = (j % PANEL / LINE, j % LINE);
        for (lines, group) in panel.chunks_exact_mut(LINES).zip(bytes.chunks_exact(GROUP)) {
            lines[line].0[lane] = u32::from_le_bytes([group[0], group[1], group[2], group[3]]);
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
        let panels = self.panels.own().chunks_exact_mut(lines);
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

    /// What each row of B was divided by, `[k]`; empty for nothing.
    pub fn row_scales(&self) -> &[f32] {
        &self.row_scales
    }

    /// One scale for each column.
    pub fn scales(&self) -> &[f32] {
        &self.scales[..self.columns]
    }

    /// Bytes of memory taken, those of a mapped file among them.
    pub fn bytes(&self) -> usize {
        let scales = self.scales.len() + self.row_scales.len();
        size_of_val(&*self.panels) + scales * size_of::<f32>() + size_of_val(&*self.starts)
    }

    /// Groups of k.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }
}

/// Of row `k`.
fn root_mean_square(b: Matrix, k: usize) -> f32 {
    let row = b.data[k * b.row_stride..].iter().step_by(b.column_stride);
    let squares: f32 = row.take(b.columns).map(|x| x * x).sum();
    (squares / b.columns.max(1) as f32).sqrt()
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
    use super::*;
    use crate::testing::numbers;

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

    /// The bytes of `packed`, `shift` bytes behind an aligned address.
    fn stored(packed: &PackedInt8, shift: usize) -> SharedBytes {
        let bytes: Vec<u8> = packed.stored_bytes().flatten().collect();
        let mut lines = vec![Line([0; LINE]); bytes.len() / 64 + 1].into_boxed_slice();
        for (i, byte) in bytes.iter().enumerate() {
            let (word, bit) = ((i + shift) / 4, (i + shift) % 4 * 8);
            lines[word / LINE].0[word % LINE] |= u32::from(*byte) << bit;
        }
        // SAFETY: the test's memory is never given back; lines are plain words.
        let all: &'static [u8] = unsafe { Box::leak(lines).align_to().1 };
        SharedBytes::from(all)
            .slice(shift..shift + bytes.len())
            .unwrap()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn what_was_stored_is_used_in_place_or_copied_where_it_is_not_aligned() {
        for (k, n) in [(1, 1), (7, 65), (130, 100), (0, 5), (5, 0)] {
            let data = numbers(k * n, 3);
            let packed = PackedInt8::new(Isa::SCALAR, Matrix::new(&data, k, n, n));
            for shift in [0, 3] {
                let bytes = stored(&packed, shift);
                let start = bytes.as_ptr().cast();
                let parts = StoredInt8 {
                    rows: k,
                    columns: n,
                    bytes,
                    scales: packed.scales(),
                    starts: packed.starts(),
                    row_scales: packed.row_scales(),
                };
                let again = PackedInt8::from_stored(Isa::SCALAR, parts).unwrap();
                assert!(same(&packed, &again));
                if k * n > 0 {
                    assert_eq!(again.panels.as_ptr() == start, shift == 0);
                }
            }
        }
    }

    #[test]
    fn stored_bytes_of_another_size_are_refused() {
        let data = numbers(8 * 70, 3);
        let packed = PackedInt8::new(Isa::SCALAR, Matrix::new(&data, 8, 70, 70));
        let fits = |(rows, columns), scales: usize, starts: usize| {
            let parts = StoredInt8 {
                rows,
                columns,
                bytes: stored(&packed, 0),
                scales: &packed.scales[..scales],
                starts: &packed.starts[..starts],
                row_scales: &[],
            };
            PackedInt8::from_stored(Isa::SCALAR, parts).is_some()
        };
        assert!(fits((8, 70), 70, 70));
        assert!(!fits((9, 70), 70, 70) && !fits((8, 129), 128, 128) && !fits((8, 70), 71, 70));
        assert!(!fits((8, 70), 70, 69) && !fits((usize::MAX, 70), 70, 70));
        assert!(!fits((8, 70), 69, 70) && !fits((MAX_ROWS + 1, 0), 0, 0));
    }

    #[test]
    #[should_panic(expected = "do not make")]
    fn values_must_fit_the_scales() {
        let _ = PackedInt8::from_quantized(Isa::SCALAR, &[0; 7], &[1.0; 2]);
    }
}
