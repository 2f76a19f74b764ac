//! Panels: the factors of a product are packed.

use super::layout::{AT_ONCE, Format, MR, TOGETHER, blocks, tile_width};
use super::pairs::pack_pairs;
#[cfg(target_arch = "x86_64")]
use super::tiles::pack_rows;
use crate::bf16;
use crate::isa::Isa;
use crate::matrix::Matrix;
use crate::simd::prefetch;

/// Rows `m.0..m.1` of A in panels of MR rows: for each word of k the MR rows' words side by side. Missing rows are zeros.
pub(super) fn pack_a(
    how: (Isa, Format),
    pack: &mut [f32],
    a: Matrix,
    m: (usize, usize),
    k: (usize, usize),
) {
    #[cfg(target_arch = "x86_64")]
    if how.1 == Format::Tiles {
        let words = how.1.words(k.1 - k.0);
        let pack = &mut pack[..(m.1 - m.0).next_multiple_of(how.1.panel_rows()) * words];
        return pack_rows(how.0, pack, a, m, k);
    }
    pack_lanes(how, pack, MR, a, m, k);
}

/// Columns `n.0..n.1` and rows `k.0..k.1` of B in panels of the tile's width.
pub(super) fn pack_b(
    how: (Isa, Format),
    pack: &mut [f32],
    b: Matrix,
    k: (usize, usize),
    n: (usize, usize),
) {
    pack_lanes(how, pack, tile_width(how.0), b.transposed(), n, k);
}

/// Lanes, which are rows of `a`, in panels of `width`: a multiple of 8, as the packing functions want it.
fn pack_lanes(
    (isa, format): (Isa, Format),
    pack: &mut [f32],
    width: usize,
    a: Matrix,
    lanes: (usize, usize),
    k: (usize, usize),
) {
    let panels = (lanes.1 - lanes.0).div_ceil(width);
    let pack = &mut pack[..panels * format.words(k.1 - k.0) * width];
    if pack.is_empty() {
        return;
    }
    match format {
        Format::F32 => pack_f32(isa, pack, width, a, lanes, k),
        Format::Rounded => {
            pack_f32(isa, pack, width, a, lanes, k);
            bf16::round_in_place(isa, pack);
        }
        Format::Pairs => pack_pairs(isa, pack, width, a, lanes, k),
        #[cfg(target_arch = "x86_64")]
        Format::Tiles => pack_pairs(isa, pack, width, a, lanes, k),
    }
}

/// Number k of lane i goes to `panels[i / width][k * width + i % width]`, zeros to the lanes that the last panel lacks.
fn pack_f32(
    isa: Isa,
    pack: &mut [f32],
    width: usize,
    a: Matrix,
    (start, end): (usize, usize),
    (k0, k1): (usize, usize),
) {
    let (count, depth) = (end - start, k1 - k0);
    let panel = depth * width;
    let offset = |lane: usize| lane / width * panel + lane % width;
    if !count.is_multiple_of(width) {
        pack[count / width * panel..].fill(0.0);
    }
    if a.row_stride == 1 {
        for (first, steps) in blocks(count, depth) {
            let lanes = TOGETHER.min(count - first);
            let offsets: [usize; TOGETHER / 8] = std::array::from_fn(|i| offset(first + 8 * i));
            for k in steps {
                let from = &a.data[start + first + (k0 + k) * a.column_stride..][..lanes];
                let (eights, rest) = from.as_chunks::<8>();
                let ahead = from.as_ptr().wrapping_add(AT_ONCE * a.column_stride);
                prefetch(ahead);
                prefetch(ahead.wrapping_add(TOGETHER / 2));
                for (offset, eight) in offsets.iter().zip(eights) {
                    pack[offset + k * width..][..8].copy_from_slice(eight);
                }
                if !rest.is_empty() {
                    let offset = offsets[eights.len()];
                    pack[offset + k * width..][..rest.len()].copy_from_slice(rest);
                }
            }
        }
        return;
    }
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
    let mut i = 0;
    #[cfg(target_arch = "x86_64")]
    if a.column_stride == 1 && isa != Isa::SCALAR {
        while i + 8 <= count {
            let rows = &a.data[(start + i) * a.row_stride + k0..];
            transpose8(
                isa,
                &mut pack[offset(i)..],
                width,
                rows,
                a.row_stride,
                depth,
            );
            i += 8;
        }
    }
    let _ = isa;
    for i in i..count {
        let from = (start + i) * a.row_stride;
        for k in k0..k1 {
            pack[offset(i) + (k - k0) * width] = a.data[from + k * a.column_stride];
        }
    }
}

/// `out[k * width + i] = rows[i * stride + k]` for 8 rows and `k` columns.
#[cfg(target_arch = "x86_64")]
fn transpose8(isa: Isa, out: &mut [f32], width: usize, rows: &[f32], stride: usize, k: usize) {
    #[target_feature(enable = "avx2,fma")]
    unsafe fn eights(out: *mut f32, width: usize, rows: *const f32, stride: usize, k: usize) {
        use crate::simd::transpose;
        use std::arch::x86_64::*;
        for k0 in (0..k).step_by(8) {
            // SAFETY: k is a multiple of 8; rows 0..8 × columns 0..k and out (k - 1) * width + 8 are inside the slices.
            unsafe {
                let mut r = [_mm256_setzero_ps(); 8];
                for (i, row) in r.iter_mut().enumerate() {
                    let from = rows.add(i * stride + k0);
                    prefetch(from.wrapping_add(8 * stride));
                    *row = _mm256_loadu_ps(from);
                }
                for (i, row) in transpose(r).into_iter().enumerate() {
                    _mm256_storeu_ps(out.add((k0 + i) * width), row);
                }
            }
        }
    }
    assert!(isa != Isa::SCALAR && 7 * stride + k <= rows.len());
    assert!(k == 0 || (k - 1) * width + 8 <= out.len());
    let whole = k / 8 * 8;
    // SAFETY: the asserts above bound every access; a set other than scalar on x86-64 includes AVX2.
    unsafe { eights(out.as_mut_ptr(), width, rows.as_ptr(), stride, whole) };
    for k in whole..k {
        for i in 0..8 {
            out[k * width + i] = rows[i * stride + k];
        }
    }
}
