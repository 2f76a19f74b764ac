//! Panels of bf16 pairs, for the instruction that multiplies them.

use crate::Isa;
use crate::matrix::Matrix;

/// Word w of lane i becomes the pair `a[start + i, k0 + 2w]`, `a[start + i, k0 + 2w + 1]`, at
/// `panels[i / width][w * width + i % width]`. Lanes that the last panel lacks and missing k are zero: a panel may have more
/// words than there are pairs. The width is a multiple of 8.
///
/// # Panics
/// `isa` has no bf16 product, or the panels are no whole number of words, or too few.
pub(super) fn pack_pairs(
    isa: Isa,
    panels: &mut [f32],
    width: usize,
    a: Matrix,
    (start, end): (usize, usize),
    (k0, k1): (usize, usize),
) {
    let (count, depth) = (end - start, k1 - k0);
    assert!(isa.has_bf16() && width.is_multiple_of(8));
    if panels.is_empty() {
        return;
    }
    let lanes = count.next_multiple_of(width);
    let (words, pairs) = (panels.len() / lanes, depth.div_ceil(2));
    assert!(panels.len().is_multiple_of(lanes) && words >= pairs);
    for panel in panels.chunks_exact_mut(words * width) {
        panel[pairs * width..].fill(0.0);
    }
    let first = start * a.row_stride + k0 * a.column_stride;
    let last = (end - 1) * a.row_stride + (k1 - 1) * a.column_stride;
    assert!(last < a.data.len());
    #[cfg(target_arch = "x86_64")]
    {
        let from = a.data[first..].as_ptr();
        let to = x86::Panels {
            to: panels.as_mut_ptr(),
            width,
            words,
            lanes,
        };
        // SAFETY: element (i, k) with i < count and k < depth stands at or before `last` in A's slice; the panels are as
        // long as asserted; `has_bf16` proves the instructions.
        unsafe {
            if a.row_stride == 1 {
                x86::interleave(to, from, a.column_stride, count, depth);
            } else {
                assert_eq!(a.column_stride, 1, "a matrix has neighbours along one side");
                x86::transpose_pairs(to, from, a.row_stride, count, depth);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = first;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::gemm::layout::{AT_ONCE, TOGETHER, blocks};
    use crate::simd::{mask16, prefetch, transpose};
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// Where pairs go: `lanes` lanes, a multiple of the width, which is one of 8.
    #[derive(Clone, Copy)]
    pub(super) struct Panels {
        pub(super) to: *mut f32,
        pub(super) width: usize,
        pub(super) words: usize,
        pub(super) lanes: usize,
    }

    impl Panels {
        /// The first word of `lane`; the seven lanes after a multiple of 8 stand beside it.
        fn offset(self, lane: usize) -> *mut f32 {
            let panel = lane / self.width * self.words * self.width;
            self.to.wrapping_add(panel + lane % self.width)
        }
    }

    /// Lanes lie side by side, k `stride` apart: two rows of A are rounded and interleaved.
    ///
    /// # Safety
    /// `from[k * stride + i]` can be read for `i < count` and `k < depth`, all of the panels written; `2 · words` is
    /// at least `depth`; the CPU has AVX-512 BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn interleave(
        panels: Panels,
        from: *const f32,
        stride: usize,
        count: usize,
        depth: usize,
    ) {
        const ORDER: [u16; 32] = {
            let mut order = [0; 32];
            let mut i = 0;
            while i < 32 {
                order[i] = (i / 2 + i % 2 * 16) as u16;
                i += 1;
            }
            order
        };
        // SAFETY: the table has 32 numbers of 16 bits.
        let order = unsafe { _mm512_loadu_epi16(ORDER.as_ptr().cast()) };
        for (first, steps) in blocks(panels.lanes, depth) {
            let eights = TOGETHER.min(panels.lanes - first) / 8;
            let offsets: [*mut f32; TOGETHER / 8] =
                std::array::from_fn(|i| panels.offset(first + 8 * i));
            for k in steps.step_by(2) {
                for (pair, offsets) in offsets[..eights].chunks(2).enumerate() {
                    let lane = first + 16 * pair;
                    let read = mask16(count.saturating_sub(lane));
                    let row = from.wrapping_add(k * stride + lane);
                    let ahead = row.wrapping_add(AT_ONCE * stride);
                    prefetch(ahead);
                    prefetch(ahead.wrapping_add(stride));
                    // SAFETY: lanes from `count` on are masked in reads, the second row is read only where k + 1 <
                    // depth; word k / 2 of the eight lanes at an offset is one of the panels'.
                    unsafe {
                        let low = _mm512_maskz_loadu_ps(read, row);
                        let high = if k + 1 < depth {
                            _mm512_maskz_loadu_ps(read, row.wrapping_add(stride))
                        } else {
                            _mm512_setzero_ps()
                        };
                        let both: __m512i = transmute(_mm512_cvtne2ps_pbh(high, low));
                        let pairs = _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both));
                        let word = k / 2 * panels.width;
                        _mm256_storeu_ps(offsets[0].add(word), _mm512_castps512_ps256(pairs));
                        if let Some(offset) = offsets.get(1) {
                            _mm256_storeu_ps(offset.add(word), _mm512_extractf32x8_ps::<1>(pairs));
                        }
                    }
                }
            }
        }
    }

    /// k lie side by side, lanes `stride` apart: 8 lanes × 16 k are rounded and transposed as 8 × 8 words.
    ///
    /// # Safety
    /// As [`interleave`], with A's numbers at `from[i * stride + k]`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn transpose_pairs(
        panels: Panels,
        from: *const f32,
        stride: usize,
        count: usize,
        depth: usize,
    ) {
        for i in (0..panels.lanes).step_by(8) {
            let offset = panels.offset(i);
            for k in (0..depth).step_by(16) {
                let left = depth - k;
                let mut words = [_mm256_setzero_ps(); 8];
                for (lane, words) in words.iter_mut().enumerate() {
                    let read = if i + lane < count { mask16(left) } else { 0 };
                    let row = from.wrapping_add((i + lane) * stride + k);
                    prefetch(row.wrapping_add(8 * stride));
                    // SAFETY: k from `depth` on and lanes from `count` on are masked; both types are 256 bits.
                    *words = unsafe {
                        transmute::<__m256bh, __m256>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(
                            read, row,
                        )))
                    };
                }
                let rows = transpose(words).into_iter();
                for (w, row) in rows.enumerate().take(left.div_ceil(2)) {
                    // SAFETY: word k / 2 + w is below `words`, and the eight lanes from i on are the panels'.
                    unsafe { _mm256_storeu_ps(offset.add((k / 2 + w) * panels.width), row) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::round;
    use crate::testing::{for_odd_shapes, for_shapes, numbers, view};
    use crate::{MatrixMut, PackedMatrix, Plus, gemm, gemm_bf16, gemm_packed};

    #[test]
    fn pairs_are_the_rounded_numbers_in_both_layouts() {
        let isa = Isa::best();
        if !isa.has_bf16() {
            return;
        }
        for (rows, depth) in [(1, 1), (3, 5), (8, 16), (20, 33), (32, 50), (75, 40)] {
            let numbers: Vec<f32> = (0..rows * depth)
                .map(|i| (i as f32 * 0.37).sin() * 3.0)
                .collect();
            let along_k = Matrix::new(&numbers, rows, depth, depth);
            let along_rows = Matrix::new(&numbers, depth, rows, rows).transposed();
            for a in [along_k, along_rows] {
                for (start, k0) in [(0, 0), (rows / 2, depth / 4 * 2)] {
                    for width in [8, 16, 32] {
                        let count = rows - start;
                        let words = (depth - k0).div_ceil(2);
                        let mut panels = vec![f32::NAN; words * count.next_multiple_of(width)];
                        pack_pairs(isa, &mut panels, width, a, (start, rows), (k0, depth));
                        let half = |i: usize, k: usize| {
                            let offset = (start + i) * a.row_stride + k * a.column_stride;
                            let inside = i < count && k < depth;
                            if inside {
                                round(a.data[offset]).to_bits() >> 16
                            } else {
                                0
                            }
                        };
                        for (offset, word) in panels.iter().enumerate() {
                            let i = offset / (words * width) * width + offset % width;
                            let k = k0 + offset % (words * width) / width * 2;
                            assert_eq!(
                                word.to_bits(),
                                half(i, k) | half(i, k + 1) << 16,
                                "{rows}×{depth} by {width}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// A product in every instruction set and with all that it can be added to, against f64 and against f32.
    ///
    /// A product of two bf16 is exact in f32, so only sums round: each of the k products and the start from C and the
    /// bias passes through at most k + 2 roundings, which keep an output within (k + 2)·2⁻²⁴ of the sum of the terms'
    /// sizes, in whatever order they are added. Without rounding to bf16 it would be off by about √k·2⁻⁹.
    fn check(m: usize, n: usize, k: usize, transposed: (bool, bool)) {
        let (da, db) = (numbers(m * k, 1), numbers(k * n, 2));
        let (start, bias) = (numbers(m * n, 3), numbers(n, 4));
        let rounded = |v: &[f32]| v.iter().map(|x| round(*x)).collect::<Vec<_>>();
        let (ra, rb) = (rounded(&da), rounded(&db));
        let (a, b) = (view(&da, m, k, transposed.0), view(&db, k, n, transposed.1));
        let (a_bf16, b_bf16) = (view(&ra, m, k, transposed.0), view(&rb, k, n, transposed.1));
        let at = |x: &Matrix, r: usize, c: usize| {
            f64::from(x.data[r * x.row_stride + c * x.column_stride])
        };
        for isa in Isa::available() {
            let packed = PackedMatrix::bf16(isa, b);
            for plus in [Plus::Nothing, Plus::C, Plus::Bias(&bias)] {
                let what = format!("{} {m}×{n}×{k} {transposed:?}", isa.name());
                let mut found = start.clone();
                gemm_bf16(isa, MatrixMut::new(&mut found, m, n, n), a, b, plus);
                for (offset, found) in found.iter().enumerate() {
                    let (i, j) = (offset / n, offset % n);
                    let first = match plus {
                        Plus::Nothing => 0.0,
                        Plus::C => f64::from(start[offset]),
                        Plus::Bias(bias) => f64::from(bias[j]),
                    };
                    let terms = (0..k).map(|k| at(&a_bf16, i, k) * at(&b_bf16, k, j));
                    let (sum, sizes) = terms.fold((first, first.abs()), |(sum, sizes), term| {
                        (sum + term, sizes + term.abs())
                    });
                    let bound = (k + 2) as f64 * sizes * 2f64.powi(-24) + 1e-30;
                    let error = (f64::from(*found) - sum).abs();
                    assert!(error <= bound, "{what} [{i}, {j}]: {error} > {bound}");
                }
                let mut again = start.clone();
                gemm_packed(MatrixMut::new(&mut again, m, n, n), a, &packed, plus.into());
                assert!(found == again, "packed {what}");
                if !isa.has_bf16() {
                    again.copy_from_slice(&start);
                    let c = MatrixMut::new(&mut again, m, n, n);
                    gemm(Isa::SCALAR, c, a_bf16, b_bf16, plus);
                    assert!(found == again, "f32 of the rounded numbers, {what}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_is_within_the_rounding_of_f32_sums() {
        for_shapes(check);
    }

    #[test]
    fn odd_shapes_too() {
        for_odd_shapes(check);
    }

    #[test]
    fn a_row_does_not_depend_on_its_companions_or_on_how_it_lies() {
        let (m, n, k) = (50, 100, 1100);
        let (da, db) = (numbers(m * k, 7), numbers(k * n, 8));
        let b = Matrix::new(&db, k, n, n);
        let mut across = vec![0.0; m * k];
        for i in 0..m {
            for j in 0..k {
                across[j * m + i] = da[i * k + j];
            }
        }
        for isa in Isa::available() {
            let product = |a: Matrix| {
                let mut c = vec![0.0; a.rows() * n];
                let rows = a.rows();
                gemm_bf16(isa, MatrixMut::new(&mut c, rows, n, n), a, b, Plus::Nothing);
                c
            };
            let together = product(Matrix::new(&da, m, k, k));
            let transposed = product(Matrix::new(&across, k, m, m).transposed());
            assert!(together == transposed, "{}", isa.name());
            for i in 0..m {
                let alone = product(Matrix::new(&da[i * k..], 1, k, k));
                assert!(alone == together[i * n..(i + 1) * n], "{} {i}", isa.name());
            }
        }
    }
}
