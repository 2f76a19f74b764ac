//! From f32 to bytes: one scale for each row of activations or each column of weights.

use crate::isa::{Isa, multiversion};
use crate::matrix::Matrix;

/// The largest magnitude of a quantized number. −128 is never made, so that the range is symmetric.
const LARGEST: f32 = 127.0;
/// Numbers whose largest magnitude lies below this count as zeros: 127 / 1e-36 still is a finite f32.
const SMALLEST: f32 = 1e-36;
/// Adding 1.5·2²³ rounds to the nearest integer, ties to even, and leaves that integer in the sum's low bits.
const ROUND: f32 = 12_582_912.0;
/// What stands for zero in a row of activations: they are stored with this offset, as VNNI takes them unsigned.
pub(super) const ZERO: u8 = 128;

/// What quantized numbers are multiplied by, and what f32 are multiplied by to be quantized.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) scale: f32,
    pub(super) inverse: f32,
}

impl Scale {
    /// For numbers whose largest magnitude has these bits. Zeros get scale 0. If a number is infinite or NaN, the scale
    /// is NaN, and so is all that is multiplied by it.
    #[inline(always)]
    pub(super) fn new(largest_bits: u32) -> Self {
        let largest = f32::from_bits(largest_bits);
        if !largest.is_finite() {
            Scale {
                scale: f32::NAN,
                inverse: 0.0,
            }
        } else if largest < SMALLEST {
            Scale {
                scale: 0.0,
                inverse: 0.0,
            }
        } else {
            Scale {
                scale: largest / LARGEST,
                inverse: LARGEST / largest,
            }
        }
    }
}

/// The bits of |x|. As integers they are in the order of the magnitudes, with infinity and then NaN on top.
#[inline(always)]
pub(super) fn magnitude_bits(x: f32) -> u32 {
    x.to_bits() & 0x7FFF_FFFF
}

/// `x · inverse` to the nearest integer, ties to even, as the low byte of the result (two's complement).
///
/// |x · inverse| ≤ 127·(1 + 2⁻²²), which rounds to 127 at most. A number that is not finite gives some byte: its scale
/// is NaN.
#[inline(always)]
pub(super) fn quantized(x: f32, inverse: f32) -> u32 {
    (x * inverse + ROUND).to_bits() & 0xFF
}

multiversion! {
    /// The bits of the largest magnitude in `x`; those of 0 for nothing.
    pub(super) fn largest_magnitude(x: &[f32]) -> u32 {
        x.iter().fold(0, |largest, v| largest.max(magnitude_bits(*v)))
    }
}

multiversion! {
    /// Quantizes `x` into the first bytes of `out`, with `offset` added to each (modulo 256).
    pub(super) fn quantize_into(out: &mut [u8], x: &[f32], inverse: f32, offset: u8) -> () {
        for (q, v) in out.iter_mut().zip(x) {
            *q = (quantized(*v, inverse) as u8).wrapping_add(offset);
        }
    }
}

/// Rows of activations as bytes, each row with its own scale: quantized once, multiplied by several weights.
///
/// `a[r, k] ≈ scale[r] · (byte[r, k] − 128)`, with `scale[r] = max |a[r]| / 127` and each number rounded to the nearest,
/// ties to even: the error is at most half of the scale. A row that holds an infinity or NaN makes all its products NaN.
#[derive(Debug, Clone, Default)]
pub struct QuantizedRows {
    /// Rows `stride` apart, filled up with zeros.
    bytes: Vec<u8>,
    scales: Vec<f32>,
    columns: usize,
    stride: usize,
    /// One row of a matrix whose columns are not one apart.
    gathered: Vec<f32>,
}

impl QuantizedRows {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is held by the rows of `a`. Memory is asked for only where more is needed than ever before.
    pub fn quantize(&mut self, isa: Isa, a: &Matrix) {
        self.columns = a.columns;
        // An odd number of cache lines: else the same k of several rows would compete for one set of the cache.
        self.stride = (a.columns.div_ceil(64) | 1) * 64;
        self.bytes.resize(a.rows * self.stride, ZERO);
        self.scales.resize(a.rows, 0.0);
        self.gathered.clear();
        let rows = self.bytes.chunks_exact_mut(self.stride);
        for ((r, out), scale) in rows.enumerate().zip(&mut self.scales) {
            let start = r * a.row_stride;
            let row = if a.columns == 0 {
                &[]
            } else if a.column_stride == 1 {
                &a.data[start..start + a.columns]
            } else {
                self.gathered.clear();
                self.gathered
                    .extend((0..a.columns).map(|k| a.data[start + k * a.column_stride]));
                &self.gathered
            };
            let s = Scale::new(largest_magnitude(isa, row));
            *scale = s.scale;
            let (out, behind) = out.split_at_mut(a.columns);
            if s.inverse == 0.0 {
                out.fill(ZERO);
            } else {
                quantize_into(isa, out, row, s.inverse, ZERO);
            }
            behind.fill(ZERO);
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.scales.len()
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One scale for each row; NaN for a row that was not finite.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// All rows' bytes, [`stride`](Self::stride) apart.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes from row to row: at least the columns, rounded up to a multiple of 4.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quantize(isa: Isa, row: &[f32]) -> (Vec<i8>, f32) {
        let mut rows = QuantizedRows::new();
        // What was there before must not show.
        rows.quantize(isa, &Matrix::new(&[1.0; 400], 2, 200, 200));
        rows.quantize(isa, &Matrix::new(row, 1, row.len(), row.len()));
        assert!(rows.bytes[row.len()..].iter().all(|b| *b == ZERO));
        let values = rows.bytes[..row.len()].iter().map(|b| (b ^ 128) as i8);
        (values.collect(), rows.scales[0])
    }

    #[test]
    fn ties_go_to_even_and_the_largest_becomes_127() {
        for isa in Isa::available() {
            let row = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, -126.5, 0.0, -127.0];
            let (values, scale) = quantize(isa, &row);
            assert_eq!(values, [127, 0, 2, 2, 0, -2, -2, -126, 0, -127]);
            assert_eq!(scale, 1.0);
        }
    }

    #[test]
    fn extreme_rows_are_handled() {
        for isa in Isa::available() {
            assert_eq!(quantize(isa, &[0.0, -0.0]), (vec![0, 0], 0.0));
            assert_eq!(quantize(isa, &[1e-40, 0.0]), (vec![0, 0], 0.0));
            assert_eq!(quantize(isa, &[]), (vec![], 0.0));
            assert_eq!(quantize(isa, &[4e-36, -1e-36]).0, [127, -32]);
            assert_eq!(quantize(isa, &[f32::MAX, f32::MIN]).0, [127, -127]);
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = [1.0; 33];
                row[32] = bad;
                let (values, scale) = quantize(isa, &row);
                assert!(scale.is_nan() && values == [0; 33]);
            }
        }
    }

    #[test]
    fn columns_may_be_apart() {
        let data: Vec<f32> = (0..35).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
        let mut straight = vec![0.0; 35];
        for r in 0..5 {
            for k in 0..7 {
                straight[r * 7 + k] = data[k * 5 + r];
            }
        }
        let (mut a, mut b) = (QuantizedRows::new(), QuantizedRows::new());
        a.quantize(Isa::best(), &Matrix::new(&data, 7, 5, 5).transposed());
        b.quantize(Isa::best(), &Matrix::new(&straight, 5, 7, 7));
        assert_eq!((a.bytes, a.scales), (b.bytes, b.scales));
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_definition(
            row in proptest::collection::vec(-1e3f32..1e3, 1..100),
            factor in prop_oneof![Just(1.0f32), Just(1e-20), Just(1e30)],
        ) {
            let row: Vec<f32> = row.iter().map(|v| v * factor).collect();
            let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            prop_assume!(largest > SMALLEST);
            let inverse = 127.0 / largest;
            let expected: Vec<i8> =
                row.iter().map(|v| (v * inverse).round_ties_even() as i8).collect();
            for isa in Isa::available() {
                let (values, scale) = quantize(isa, &row);
                prop_assert_eq!(&values, &expected);
                prop_assert_eq!(scale, largest / 127.0);
            }
        }
    }
}
