//! Rows of activations as bytes, 32 of which share a scale.

use super::GROUP;
use super::pack::PackedInt4;
use crate::int8::{Scale, largest_magnitude, quantize_into};
use crate::isa::{Isa, multiversion};
use crate::matrix::Matrix;

/// Rows of activations, quantized once and multiplied by several weights.
///
/// `a[r, k] ≈ scale[r, k / 32] · byte[r, k]`, with the largest magnitude of the 32 as 127 and each number rounded to the nearest, ties
/// to even. A group that holds an infinity or NaN makes all its row's products NaN.
#[derive(Debug, Clone, Default)]
pub struct Int4Rows {
    /// Rows `stride` apart, filled up with zeros to whole groups. Signed, each in a byte or in 16 bits, then those at even positions
    /// of four before those at odd ones.
    bytes: Vec<u8>,
    widened: bool,
    /// One for each row and group.
    scales: Vec<f32>,
    /// −8 · Σ byte of each row and group: what a sum starts from, as weights are stored with 8 added.
    starts: Vec<i32>,
    rows: usize,
    columns: usize,
    /// One row of a matrix whose columns are not one apart.
    gathered: Vec<f32>,
}

impl Int4Rows {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is held by the rows of `a`, as `b` is to be multiplied by them. Memory is asked for only where more is needed
    /// than ever before.
    pub fn quantize_for(&mut self, b: &PackedInt4, a: &Matrix) {
        self.quantize(b.isa, a, b.kernel.is_widened());
    }

    pub(super) fn quantize(&mut self, isa: Isa, a: &Matrix, widened: bool) {
        (self.rows, self.columns, self.widened) = (a.rows, a.columns, widened);
        let groups = self.groups();
        let stride = self.stride();
        self.bytes.resize(a.rows * stride, 0);
        self.scales.resize(a.rows * groups, 0.0);
        self.starts.resize(a.rows * groups, 0);
        if stride == 0 {
            return;
        }
        let group_bytes = stride / groups;
        for (r, row) in self.bytes.chunks_exact_mut(stride).enumerate() {
            let start = r * a.row_stride;
            let numbers = if a.column_stride == 1 {
                &a.data[start..start + a.columns]
            } else {
                self.gathered.clear();
                let from = (0..a.columns).map(|k| a.data[start + k * a.column_stride]);
                self.gathered.extend(from);
                &self.gathered
            };
            let of_row = r * groups..(r + 1) * groups;
            let scales = self.scales[of_row.clone()].iter_mut();
            let targets = scales.zip(&mut self.starts[of_row]);
            let groups = numbers.chunks(GROUP).zip(row.chunks_exact_mut(group_bytes));
            for ((numbers, bytes), (scale, start)) in groups.zip(targets) {
                let mut signed = [0u8; GROUP];
                let s = Scale::new(largest_magnitude(isa, numbers));
                *scale = s.scale;
                if s.inverse != 0.0 {
                    quantize_into(isa, &mut signed, numbers, s.inverse, 0);
                }
                let sum: i32 = signed.iter().map(|byte| i32::from(*byte as i8)).sum();
                *start = -8 * sum;
                match widened {
                    true => widen(isa, bytes, &signed),
                    false => bytes.copy_from_slice(&signed),
                }
            }
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn groups(&self) -> usize {
        self.columns.div_ceil(GROUP)
    }

    pub(super) fn is_widened(&self) -> bool {
        self.widened
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes from row to row.
    pub(super) fn stride(&self) -> usize {
        self.groups() * GROUP * if self.widened { 2 } else { 1 }
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }

    pub(super) fn starts(&self) -> &[i32] {
        &self.starts
    }

    /// The byte of row `r` in column `k`.
    #[cfg(test)]
    pub(super) fn number(&self, r: usize, k: usize) -> i32 {
        let row = &self.bytes[r * self.stride()..];
        match self.widened {
            false => i32::from(row[k] as i8),
            true => {
                let at = k / 4 * 8 + [0, 4, 2, 6][k % 4];
                i32::from(i16::from_le_bytes([row[at], row[at + 1]]))
            }
        }
    }
}

multiversion! {
    /// Writes signed bytes in 16 bits each: of four those at even positions, then those at odd ones.
    fn widen(out: &mut [u8], bytes: &[u8]) -> () {
        let (fours, _) = bytes.as_chunks::<4>();
        let (wide, _) = out.as_chunks_mut::<8>();
        for (wide, four) in wide.iter_mut().zip(fours) {
            let [a, b, c, d] = four.map(|byte| i16::from(byte as i8) as u16);
            let [low, high] = [[a, c], [b, d]].map(|[x, y]| u64::from(x) | u64::from(y) << 16);
            *wide = (low | high << 32).to_le_bytes();
        }
    }
}
