//! Weights as nibbles, laid out in the order in which a product reads them.

use super::tile::Kernel;
use super::{GROUP, LINES, NIBBLE_LINES};
use crate::bf16;
use crate::isa::{Isa, multiversion};
use crate::matrix::Matrix;
use crate::panels::{LINE, Line, PANEL, Panels};
use crate::shared::SharedBytes;

/// A weight B `[k, n]` as nibbles, of which 32 along k share a scale, packed once for many products.
///
/// `b[k, j] ≈ scale[k / 32, j] · (nibble[k, j] − 8)`. The scale, a bf16, is that of some that leaves the least squared error. A group
/// that holds an infinity or NaN has scale NaN, so that its column's products are NaN. One copy is kept: n and k are filled up with
/// zeros to multiples of 64 and 32.
#[derive(Debug, Clone)]
pub struct PackedInt4 {
    pub(super) isa: Isa,
    pub(super) kernel: Kernel,
    rows: usize,
    columns: usize,
    /// Panels of 64 columns; in each, for each group of 32 k, 18 lines: for each 16 columns and each 8 k one of nibbles, in whose
    /// bytes the first four k are the low ones; then the 64 scales.
    pub(super) panels: Panels,
}

/// A nibble that stands for zero, twice.
const ZEROS: u32 = 0x8888_8888;

impl PackedInt4 {
    /// Quantizes and packs `b` `[k, n]`.
    pub fn new(isa: Isa, b: Matrix) -> Self {
        let mut packed = Self::zeros(isa, b.rows, b.columns);
        packed.set_columns(0, b);
        packed
    }

    /// Zeros, to be filled by [`PackedInt4::set_columns`].
    pub fn zeros(isa: Isa, rows: usize, columns: usize) -> Self {
        let groups = columns.div_ceil(PANEL) * rows.div_ceil(GROUP);
        let mut lines = vec![Line([ZEROS; LINE]); groups * LINES];
        for group in lines.chunks_exact_mut(LINES) {
            group[NIBBLE_LINES..].fill(Line([0; LINE]));
        }
        PackedInt4 {
            isa,
            kernel: Kernel::new(isa),
            rows,
            columns,
            panels: Panels::Own(lines),
        }
    }

    /// Quantizes and packs the columns from `start` on, as many as `b` has. Fast where they are contiguous.
    ///
    /// # Panics
    /// The shapes do not fit.
    pub fn set_columns(&mut self, start: usize, b: Matrix) {
        assert!(b.rows == self.rows && start + b.columns <= self.columns);
        let groups = self.groups();
        let mut column = vec![0.0; groups * GROUP];
        for j in 0..b.columns {
            let from = b.data.get(j * b.column_stride..).unwrap_or(&[]);
            let from = from.iter().step_by(b.row_stride);
            for (to, number) in column.iter_mut().zip(from.take(b.rows)) {
                *to = *number;
            }
            let lines = groups * LINES;
            let panel = &mut self.panels.own()[(start + j) / PANEL * lines..][..lines];
            let place = (start + j) % PANEL;
            let numbers = column.as_chunks::<GROUP>().0;
            for (group, numbers) in panel.chunks_exact_mut(LINES).zip(numbers) {
                let (scale, nibbles) = quantized(self.isa, numbers);
                put(group, place, scale, &nibbles);
            }
        }
    }

    /// The shape of the bytes of a packed weight `[rows, columns]`: panels, groups of 32 k, lines, bytes of a line. It is the same on
    /// every machine, so that the bytes can be stored.
    pub fn stored_shape(rows: usize, columns: usize) -> [usize; 4] {
        [
            columns.div_ceil(PANEL),
            rows.div_ceil(GROUP),
            LINES,
            4 * LINE,
        ]
    }

    /// A weight `[rows, columns]` that was packed before: what [`stored_bytes`](PackedInt4::stored_bytes) gave. The bytes are used
    /// where they lie, or copied where they are not aligned to 64. Any bytes will do: other ones than were stored give other numbers,
    /// and no other harm.
    ///
    /// `None` where their number does not fit the shape.
    pub fn from_stored(isa: Isa, rows: usize, columns: usize, bytes: SharedBytes) -> Option<Self> {
        let shape = Self::stored_shape(rows, columns);
        let size = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        (bytes.len() == size).then(|| PackedInt4 {
            isa,
            kernel: Kernel::new(isa),
            rows,
            columns,
            panels: Panels::from_bytes(bytes),
        })
    }

    /// The bytes in the order in which products read them, of the shape [`stored_shape`](PackedInt4::stored_shape).
    pub fn stored_bytes(&self) -> impl Iterator<Item = [u8; 64]> {
        self.panels.iter().map(Line::bytes)
    }

    /// Column `j` of B (as rounded), to `out`, which holds as many numbers as B has rows.
    ///
    /// # Panics
    /// There is no such column, or `out` has another length.
    pub fn column(&self, j: usize, out: &mut [f32]) {
        assert!(j < self.columns && out.len() == self.rows);
        for (g, out) in out.chunks_mut(GROUP).enumerate() {
            for (k, number) in out.iter_mut().enumerate() {
                let (scale, nibble) = self.value(g * GROUP + k, j);
                *number = scale * nibble as f32;
            }
        }
    }

    /// All scales, for each column those of its groups.
    pub fn scales(&self) -> Vec<f32> {
        let of_column = |j| (0..self.groups()).map(move |group| self.value(group * GROUP, j).0);
        (0..self.columns).flat_map(of_column).collect()
    }

    /// The scale and the number from −8 to 7 of row `k` and column `j`.
    pub(super) fn value(&self, k: usize, j: usize) -> (f32, i32) {
        let group = (j / PANEL * self.groups() + k / GROUP) * LINES;
        let lines = &self.panels[group..][..LINES];
        let (place, k) = (j % PANEL, k % GROUP);
        let (line, shift) = nibble_place(place, k);
        let nibble = lines[line].0[place % LINE] >> shift & 15;
        let (line, word, shift) = scale_place(place);
        let scale = (lines[line].0[word] >> shift) as u16;
        (f32::from_bits(u32::from(scale) << 16), nibble as i32 - 8)
    }

    /// Rows of B: the inner size of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of B: the width of a product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory taken, those of a mapped file among them.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.panels)
    }

    /// Groups of 32 k.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }
}

/// The line of a group, and the lowest bit in its word, of the `k`th weight of the column at `place` of a panel.
fn nibble_place(place: usize, k: usize) -> (usize, usize) {
    let line = place / LINE * 4 + k / 8;
    (line, k % 4 * 8 + k / 4 % 2 * 4)
}

/// The line, the word and its lowest bit of the scale of the column at `place`.
fn scale_place(place: usize) -> (usize, usize, usize) {
    let word = place / 2;
    (NIBBLE_LINES + word / LINE, word % LINE, place % 2 * 16)
}

/// Lays out the weights of the column at `place` of a group, with their scale, a bf16.
fn put(group: &mut [Line], place: usize, scale: f32, nibbles: &[u8; GROUP]) {
    let mut set = |line: usize, word: usize, (shift, bits): (usize, u32), value: u32| {
        let word = &mut group[line].0[word];
        *word = *word & !(((1 << bits) - 1) << shift) | value << shift;
    };
    for (k, nibble) in nibbles.iter().enumerate() {
        let (line, shift) = nibble_place(place, k);
        set(line, place % LINE, (shift, 4), u32::from(*nibble));
    }
    let (line, word, shift) = scale_place(place);
    set(line, word, (shift, 16), scale.to_bits() >> 16);
}

/// Where the number of largest magnitude may lie, in scales from zero.
const LARGEST: [f32; 9] = [7.0, 7.25, 7.5, 7.75, 8.0, 8.25, 8.5, 8.75, 9.0];

/// The scale of `x`, a bf16, and its nibbles.
fn quantized(isa: Isa, x: &[f32; GROUP]) -> (f32, [u8; GROUP]) {
    let largest = x
        .iter()
        .fold(0.0f32, |a, b| if b.abs() > a.abs() { *b } else { a });
    if x.iter().any(|x| !x.is_finite()) {
        return (f32::NAN, [8; GROUP]);
    }
    if largest == 0.0 {
        return (0.0, [8; GROUP]);
    }
    // The largest number is at −8, for there is no 8. For whole numbers q the best scale is Σxq / Σq², which leaves the error
    // Σx² − (Σxq)² / Σq².
    let (mut best, mut scale) = (-1.0, 0.0f32);
    for places in LARGEST {
        let (xq, qq) = fit(isa, x, -places / largest);
        let gain = xq * xq / qq;
        if gain > best {
            (best, scale) = (gain, xq / qq);
        }
    }
    // Of numbers whose squares are too large.
    let scale = match scale.is_finite() {
        true => scale,
        false => largest / -8.0,
    };
    let scale = bf16::round(scale);
    let inverse = 1.0 / scale;
    // A scale that is too small for its inverse.
    if !inverse.is_finite() {
        return (0.0, [8; GROUP]);
    }
    (scale, x.map(|x| (whole(x, inverse) + 8.0) as u8))
}

/// The whole number from −8 to 7 that stands for `x`.
#[inline(always)]
fn whole(x: f32, inverse: f32) -> f32 {
    (x * inverse).round_ties_even().clamp(-8.0, 7.0)
}

multiversion! {
    /// Σxq and Σq² of the whole numbers q that stand for `x`.
    fn fit(x: &[f32; GROUP], inverse: f32) -> (f32, f32) {
        let (mut xq, mut qq) = ([0.0f32; 8], [0.0f32; 8]);
        for x in x.as_chunks::<8>().0 {
            for lane in 0..8 {
                let q = whole(x[lane], inverse);
                xq[lane] += x[lane] * q;
                qq[lane] += q * q;
            }
        }
        (xq.iter().sum(), qq.iter().sum())
    }
}
