//! From f32 to bytes: one scale for each row of activations or each column of weights.

use super::bytes::RowLayout;
use super::outliers::{Int8Scales, Outlier, STANDS_OUT};
use crate::isa::{Isa, multiversion};
use crate::matrix::Matrix;
use crate::panels::GROUP;

/// The largest magnitude of a quantized number. −128 is never made, so that the range is symmetric.
pub(super) const LARGEST: f32 = 127.0;
/// Numbers whose largest magnitude lies below this count as zeros: 127 / 1e-36 still is a finite f32.
const SMALLEST: f32 = 1e-36;
/// Adding 1.5·2²³ rounds to the nearest integer, ties to even, and leaves that integer in the sum's low bits.
pub(super) const ROUND: f32 = 12_582_912.0;
/// What stands for zero in a row of activations: they are stored with this offset, as VNNI takes them unsigned.
pub(super) const ZERO: u8 = 128;

/// What quantized numbers are multiplied by, and what f32 are multiplied by to be quantized.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) scale: f32,
    pub(crate) inverse: f32,
}

impl Scale {
    /// For numbers whose largest magnitude has these bits. Zeros get scale 0. If a number is infinite or NaN, the scale
    /// is NaN, and so is all that is multiplied by it.
    #[inline(always)]
    pub(crate) fn new(largest_bits: u32) -> Self {
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
/// is NaN. So does an outlier, whose byte is set afterwards.
#[inline(always)]
pub(super) fn quantized(x: f32, inverse: f32) -> u32 {
    (x * inverse + ROUND).to_bits() & 0xFF
}

multiversion! {
    /// The bits of the largest magnitude in `x`; those of 0 for nothing.
    pub(crate) fn largest_magnitude(x: &[f32]) -> u32 {
        x.iter().fold(0, |largest, v| largest.max(magnitude_bits(*v)))
    }
}

multiversion! {
    /// `x = x · y`, as far as there are both.
    fn multiply(x: &mut [f32], y: &[f32]) -> () {
        x.iter_mut().zip(y).for_each(|(x, y)| *x *= y);
    }
}

/// Rows behind the last one that a tile may read, whatever is in them.
const READ_BEYOND: usize = 15;

/// Numbers that are looked at together.
const LANES: usize = 16;

multiversion! {
    /// The bits of the largest and of the second largest magnitude in `x`; those of 0 for nothing.
    fn two_largest_magnitudes(x: &[f32]) -> (u32, u32) {
        let (mut first, mut second) = ([0u32; LANES], [0u32; LANES]);
        let (chunks, rest) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                let bits = magnitude_bits(chunk[i]);
                second[i] = second[i].max(bits.min(first[i]));
                first[i] = first[i].max(bits);
            }
        }
        let lanes = first.into_iter().chain(second);
        let all = lanes.chain(rest.iter().map(|v| magnitude_bits(*v)));
        all.fold((0, 0), |(first, second), bits| {
            (first.max(bits), second.max(bits.min(first)))
        })
    }
}

multiversion! {
    /// Where `x` first has a number of this magnitude; its length if nowhere.
    fn position_of(x: &[f32], bits: u32) -> usize {
        let has = |chunk: &[f32]| chunk.iter().fold(false, |has, v| has | (magnitude_bits(*v) == bits));
        let chunk = x.chunks(64).position(has).unwrap_or(0) * 64;
        let found = x[chunk.min(x.len())..].iter().position(|v| magnitude_bits(*v) == bits);
        found.map_or(x.len(), |i| chunk + i)
    }
}

/// The row's scale, and its number that stands out, if one does.
fn scale_without_outlier(isa: Isa, row: &[f32]) -> (Scale, Outlier) {
    let (first, second) = two_largest_magnitudes(isa, row);
    let largest = f32::from_bits(first);
    if !largest.is_finite() || largest <= STANDS_OUT * f32::from_bits(second) {
        return (Scale::new(first), Outlier::default());
    }
    let k = position_of(isa, row, first);
    let outlier = Outlier { k, value: row[k] };
    (Scale::new(second), outlier)
}

multiversion! {
    /// Quantizes `x` into the first bytes of `out`, with `offset` added to each (modulo 256).
    pub(crate) fn quantize_into(out: &mut [u8], x: &[f32], inverse: f32, offset: u8) -> () {
        for (q, v) in out.iter_mut().zip(x) {
            *q = (quantized(*v, inverse) as u8).wrapping_add(offset);
        }
    }
}

multiversion! {
    /// Writes whole groups of bytes in 16 bits each, as [`RowLayout::Widened`] has them.
    fn widen(out: &mut [u8], bytes: &[u8]) -> () {
        let (groups, _) = bytes.as_chunks::<GROUP>();
        let (wide, _) = out.as_chunks_mut::<{ 2 * GROUP }>();
        for (wide, [a, b, c, d]) in wide.iter_mut().zip(groups) {
            *wide = [*a, 0, *c, 0, *b, 0, *d, 0];
        }
    }
}

/// Rows of activations as bytes, each row with its own scale: quantized once, multiplied by several weights.
///
/// `a[r, k] ≈ scale[r] · (byte[r, k] − 128)`, with `scale[r] = max |a[r]| / 127` and each number rounded to the nearest,
/// ties to even: the error is at most half of the scale. A row that holds an infinity or NaN makes all its products NaN.
/// With [`Int8Scales::WithoutOutlier`] a row may have one number apart, which is no byte. Where a weight's rows have scales,
/// `a` is what was given times these.
#[derive(Debug, Clone, Default)]
pub struct QuantizedRows {
    /// Rows `stride` apart, filled up with zeros, as `layout` says.
    bytes: Vec<u8>,
    layout: RowLayout,
    scales: Vec<f32>,
    /// One for each row, or none at all where none has one.
    outliers: Vec<Outlier>,
    columns: usize,
    stride: usize,
    /// One row of a matrix whose columns are not one apart, or are scaled.
    gathered: Vec<f32>,
    /// One row before it is widened.
    narrow: Vec<u8>,
}

impl QuantizedRows {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is held by the rows of `a`, each number multiplied by its column's scale before, where there are any.
    pub(super) fn quantize(
        &mut self,
        isa: Isa,
        a: &Matrix,
        by: Int8Scales,
        (column_scales, layout): (&[f32], RowLayout),
    ) {
        (self.columns, self.layout) = (a.columns, layout);
        let filled = a.columns.next_multiple_of(GROUP);
        // An odd number of cache lines: else the same k of several rows would compete for one set of the cache.
        self.stride = ((filled / GROUP * layout.group_bytes()).div_ceil(64) | 1) * 64;
        self.bytes.resize((a.rows + READ_BEYOND) * self.stride, 0);
        self.narrow.resize(filled, ZERO);
        self.scales.resize(a.rows, 0.0);
        self.outliers.clear();
        self.gathered.clear();
        let rows = self.bytes.chunks_exact_mut(self.stride);
        for ((r, out), scale) in rows.enumerate().zip(&mut self.scales) {
            let start = r * a.row_stride;
            let row = if a.columns == 0 {
                &[]
            } else if a.column_stride == 1 && column_scales.is_empty() {
                &a.data[start..start + a.columns]
            } else {
                self.gathered.clear();
                if a.column_stride == 1 {
                    self.gathered.extend(&a.data[start..start + a.columns]);
                } else {
                    let from = (0..a.columns).map(|k| a.data[start + k * a.column_stride]);
                    self.gathered.extend(from);
                }
                multiply(isa, &mut self.gathered, column_scales);
                &self.gathered
            };
            let (s, outlier) = match by {
                Int8Scales::Largest => {
                    (Scale::new(largest_magnitude(isa, row)), Outlier::default())
                }
                Int8Scales::WithoutOutlier => scale_without_outlier(isa, row),
            };
            *scale = s.scale;
            let bytes = match layout {
                RowLayout::Bytes => &mut out[..filled],
                RowLayout::Widened => &mut self.narrow[..],
            };
            let (numbers, behind) = bytes.split_at_mut(a.columns);
            if s.inverse == 0.0 {
                numbers.fill(ZERO);
            } else {
                quantize_into(isa, numbers, row, s.inverse, ZERO);
            }
            behind.fill(ZERO);
            if outlier.value != 0.0 {
                numbers[outlier.k] = ZERO;
                self.outliers.resize(a.rows, Outlier::default());
                self.outliers[r] = outlier;
            }
            if layout == RowLayout::Widened {
                widen(isa, out, &self.narrow);
            }
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

    /// Each row's number that is no byte, if any row has one.
    pub(super) fn outliers(&self) -> &[Outlier] {
        &self.outliers
    }

    /// How the rows lie.
    pub(super) fn layout(&self) -> RowLayout {
        self.layout
    }

    /// The quantized number of row `r` in column `k`.
    #[cfg(test)]
    pub(super) fn number(&self, r: usize, k: usize) -> i32 {
        let row = &self.bytes[r * self.stride..];
        let byte = match self.layout {
            RowLayout::Bytes => row[k],
            RowLayout::Widened => row[k / GROUP * 8 + [0, 4, 2, 6][k % GROUP]],
        };
        i32::from(byte) - i32::from(ZERO)
    }

    /// All rows' bytes, [`stride`](Self::stride) apart.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes from row to row: at least those of the columns, rounded up to whole groups.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: (&[f32], RowLayout) = (&[], RowLayout::Bytes);

    fn quantize(isa: Isa, row: &[f32]) -> (Vec<i8>, f32) {
        let mut rows = QuantizedRows::new();
        // What was there before must not show.
        let by = Int8Scales::Largest;
        rows.quantize(isa, &Matrix::new(&[1.0; 400], 2, 200, 200), by, PLAIN);
        rows.quantize(isa, &Matrix::new(row, 1, row.len(), row.len()), by, PLAIN);
        let filled = row.len().next_multiple_of(GROUP);
        assert!(rows.bytes[row.len()..filled].iter().all(|b| *b == ZERO));
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
    fn widened_rows_hold_the_same_numbers() {
        let row: Vec<f32> = (0..70).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
        for isa in Isa::available() {
            for length in [0, 1, 3, 4, 5, 31, 70] {
                let matrix = Matrix::new(&row[..length], 1, length, length);
                let (mut narrow, mut wide) = (QuantizedRows::new(), QuantizedRows::new());
                narrow.quantize(isa, &matrix, Int8Scales::WithoutOutlier, PLAIN);
                // What was there before must not show.
                wide.bytes.resize(4096, 77);
                let widened = (&[][..], RowLayout::Widened);
                wide.quantize(isa, &matrix, Int8Scales::WithoutOutlier, widened);
                assert_eq!(
                    (&narrow.scales, &narrow.outliers),
                    (&wide.scales, &wide.outliers)
                );
                let groups = length.div_ceil(GROUP);
                for (group, wide) in wide.bytes.chunks(2 * GROUP).take(groups).enumerate() {
                    let n = &narrow.bytes[group * GROUP..][..GROUP];
                    assert_eq!(wide, [n[0], 0, n[2], 0, n[1], 0, n[3], 0]);
                }
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
        for by in [Int8Scales::Largest, Int8Scales::WithoutOutlier] {
            a.quantize(
                Isa::best(),
                &Matrix::new(&data, 7, 5, 5).transposed(),
                by,
                PLAIN,
            );
            b.quantize(Isa::best(), &Matrix::new(&straight, 5, 7, 7), by, PLAIN);
            assert_eq!((&a.bytes, &a.scales), (&b.bytes, &b.scales));
            assert_eq!(a.outliers, b.outliers);
        }
    }

    #[test]
    fn a_number_that_stands_out_is_taken_out() {
        let mut rows = QuantizedRows::new();
        for isa in Isa::available() {
            for length in [1, 2, 15, 16, 17, 70, 200] {
                for k in [0, length / 2, length - 1] {
                    let mut row = vec![0.5; length];
                    row[k] = -9.0;
                    if length > 1 {
                        row[(k + 1) % length] = 2.0;
                    }
                    rows.quantize(
                        isa,
                        &Matrix::new(&row, 1, length, length),
                        Int8Scales::WithoutOutlier,
                        PLAIN,
                    );
                    let second = if length > 1 { 2.0 } else { 0.0 };
                    assert_eq!(rows.scales, [second / 127.0]);
                    assert_eq!(rows.outliers, [Outlier { k, value: -9.0 }]);
                    assert_eq!(rows.bytes[k], ZERO);
                    // Two that are nearly alike have one scale.
                    row[k] = 2.4;
                    rows.quantize(
                        isa,
                        &Matrix::new(&row, 1, length, length),
                        Int8Scales::WithoutOutlier,
                        PLAIN,
                    );
                    assert_eq!(rows.outliers.is_empty(), length > 1);
                }
            }
            for bad in [f32::NAN, f32::NEG_INFINITY] {
                let mut row = [1.0; 33];
                row[20] = bad;
                rows.quantize(
                    isa,
                    &Matrix::new(&row, 1, 33, 33),
                    Int8Scales::WithoutOutlier,
                    PLAIN,
                );
                assert!(rows.scales[0].is_nan() && rows.outliers.is_empty());
            }
        }
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
