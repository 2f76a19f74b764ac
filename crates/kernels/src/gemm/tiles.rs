//! Products of bf16 by AMX: how rows are packed for it, and one tile.

use std::arch::x86_64::*;
use std::mem::{MaybeUninit, transmute};

use super::{Block, NC, Product};
use crate::Isa;
use crate::amx::{self, Numbers, ROWS, Registers, Tiles};
use crate::matrix::{Matrix, Plus};
use crate::simd::{mask16, prefetch, transpose};

/// Numbers of k in a step.
const DEPTH: usize = 2 * ROWS;
/// Columns of a tile.
const COLUMNS: usize = 2 * ROWS;

/// Rows `start..end` of A and its columns `k0..k1` in panels of 16 rows: for each 32 k the rows' numbers one after the other, a
/// cache line each. Missing rows and k are zeros.
///
/// # Panics
/// `isa` has no AMX, or the panels have another size.
pub(super) fn pack_rows(
    isa: Isa,
    panels: &mut [f32],
    a: Matrix,
    (start, end): (usize, usize),
    (k0, k1): (usize, usize),
) {
    let (count, depth) = (end - start, k1 - k0);
    assert!(isa.has_bf16());
    assert_eq!(
        panels.len(),
        count.next_multiple_of(ROWS) * depth.div_ceil(DEPTH) * ROWS
    );
    if panels.is_empty() {
        return;
    }
    let first = start * a.row_stride + k0 * a.column_stride;
    let last = (end - 1) * a.row_stride + (k1 - 1) * a.column_stride;
    assert!(last < a.data.len());
    let from = a.data[first..].as_ptr();
    let to = panels.as_mut_ptr();
    // SAFETY: element (i, k) with i < count and k < depth stands at or before `last` in A's slice; the panels are as long as
    // asserted; `has_bf16` proves the instructions.
    unsafe {
        if a.column_stride == 1 {
            by_rows(to, from, a.row_stride, count, depth);
        } else {
            assert_eq!(a.row_stride, 1, "a matrix has neighbours along one side");
            by_columns(to, from, a.column_stride, count, depth);
        }
    }
}

/// Where the step of `k` of row `i` goes.
fn line(to: *mut f32, depth: usize, i: usize, k: usize) -> *mut f32 {
    let step = i / ROWS * depth.div_ceil(DEPTH) + k / DEPTH;
    to.wrapping_add((step * ROWS + i % ROWS) * ROWS)
}

/// k lie side by side, rows `stride` apart.
///
/// # Safety
/// `from[i * stride + k]` can be read for `i < count` and `k < depth`, all of the panels written; the CPU has AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn by_rows(to: *mut f32, from: *const f32, stride: usize, count: usize, depth: usize) {
    for i in 0..count.next_multiple_of(ROWS) {
        let inside = if i < count { depth } else { 0 };
        let row = from.wrapping_add(i * stride);
        for k in (0..depth).step_by(DEPTH) {
            let left = inside.saturating_sub(k);
            // SAFETY: k from `depth` on and rows from `count` on are masked; a line is 16 words.
            unsafe {
                let low = _mm512_maskz_loadu_ps(mask16(left), row.wrapping_add(k));
                let high = mask16(left.saturating_sub(16));
                let high = _mm512_maskz_loadu_ps(high, row.wrapping_add(k + 16));
                let both: __m512 = transmute(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_ps(line(to, depth, i, k), both);
            }
        }
    }
}

/// Rows lie side by side, k `stride` apart: pairs of k are rounded and interleaved, and 16 × 16 of them transposed.
///
/// # Safety
/// As [`by_rows`], with A's numbers at `from[k * stride + i]`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn by_columns(to: *mut f32, from: *const f32, stride: usize, count: usize, depth: usize) {
    for k in (0..depth).step_by(DEPTH) {
        for i in (0..count).step_by(ROWS) {
            let read = mask16(count - i);
            let mut low = [_mm256_setzero_ps(); ROWS];
            let mut high = low;
            for (w, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
                let k = k + 2 * w;
                let row = from.wrapping_add(k * stride + i);
                prefetch(row.wrapping_add(DEPTH * stride));
                prefetch(row.wrapping_add((DEPTH + 1) * stride));
                let read = |k: usize| if k < depth { read } else { 0 };
                // SAFETY: rows from `count` on and k from `depth` on are masked.
                let pairs = unsafe {
                    let even = _mm512_maskz_loadu_ps(read(k), row);
                    let odd = _mm512_maskz_loadu_ps(read(k + 1), row.wrapping_add(stride));
                    pair(even, odd)
                };
                (*low, *high) = (
                    _mm512_castps512_ps256(pairs),
                    _mm512_extractf32x8_ps::<1>(pairs),
                );
            }
            for (rows, words) in [(0, &low), (8, &high)] {
                for (half, words) in words.as_chunks::<8>().0.iter().enumerate() {
                    for (j, row) in transpose(*words).into_iter().enumerate() {
                        let to = line(to, depth, i + rows + j, k).wrapping_add(8 * half);
                        // SAFETY: half of one of the panels' lines, which are of whole 16 rows.
                        unsafe { _mm256_storeu_ps(to, row) };
                    }
                }
            }
        }
    }
}

/// The bf16 of both numbers of each lane, that of `even` in the lower half.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16,avx512vl")]
#[inline]
fn pair(even: __m512, odd: __m512) -> __m512 {
    // SAFETY: both types are 256 bits of 16 bf16.
    let [even, odd] =
        [even, odd].map(|x| unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) });
    let odd = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(odd));
    _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(even), odd))
}

/// Up to 32 rows by up to 32 columns of C.
struct Tile {
    rows: usize,
    columns: usize,
    /// Panels of 16 rows of A, and a panel of B, both of `words` words of k.
    a: *const f32,
    b: *const f32,
    words: usize,
    c: *mut f32,
    c_stride: usize,
    load_c: bool,
    /// One for each column, or null.
    bias: *const f32,
}

impl Product<'_> {
    /// The tiles of one block: those of the same rows one after the other, so that C's lines are written in their order.
    /// `rows` are those of all of B, whose panels `panels` are.
    pub(super) fn amx_tiles(
        &mut self,
        (panels, rows): (&[f32], usize),
        packed_a: &[f32],
        block: Block,
        origin: (usize, usize),
    ) {
        let words = self.format.words(block.k.1 - block.k.0);
        let panel_words = self.format.words(rows) * COLUMNS;
        let before = self.format.words(block.k.0 - origin.0) * COLUMNS;
        let (first, last) = (block.k.0 == 0, block.k.1 == self.a.columns);
        let _registers = Registers::new();
        for n0 in (block.columns.0..block.columns.1).step_by(NC) {
            let n1 = block.columns.1.min(n0 + NC);
            for m0 in (block.rows.0..block.rows.1).step_by(2 * ROWS) {
                let m = (block.rows.1 - m0).min(2 * ROWS);
                let a_start = (m0 - block.rows.0) * words;
                let a = &packed_a[a_start..][..m.next_multiple_of(ROWS) * words];
                for j in (n0..n1).step_by(COLUMNS) {
                    let n = (n1 - j).min(COLUMNS);
                    let b_start = (j - origin.1) / COLUMNS * panel_words + before;
                    let b = &panels[b_start..][..words * COLUMNS];
                    let c_start = m0 * self.c.row_stride + j;
                    let c = &mut self.c.data[c_start..][..(m - 1) * self.c.row_stride + n];
                    let tile = Tile {
                        rows: m,
                        columns: n,
                        a: a.as_ptr(),
                        b: b.as_ptr(),
                        words,
                        c: c.as_mut_ptr(),
                        c_stride: self.c.row_stride,
                        load_c: !first || self.epilogue.plus == Plus::C,
                        bias: match self.epilogue.plus {
                            Plus::Bias(bias) if last => bias[j..j + n].as_ptr(),
                            _ => std::ptr::null(),
                        },
                    };
                    // SAFETY: the slices above show that whole panels of A and of B and m rows of n columns of C exist, and n
                    // numbers of the bias; `c` comes from a unique borrow; the format is chosen only where the CPU has AMX.
                    unsafe { multiply(&tile) };
                }
                if last {
                    self.activate((m0, m0 + m), (n0, n1));
                }
            }
        }
    }
}

/// # Safety
/// What the tile names can be read or written; this thread holds the registers of AMX.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
unsafe fn multiply(tile: &Tile) {
    #[repr(C, align(64))]
    struct Aligned<T>(T);
    static ZEROS: Aligned<[f32; COLUMNS]> = Aligned([0.0; COLUMNS]);
    let mut sums = Aligned(MaybeUninit::<[f32; COLUMNS * COLUMNS]>::uninit());
    let sums = sums.0.as_mut_ptr().cast::<f32>();
    let steps = tile.words / ROWS;
    // Sums of whole tiles stay where they belong, others pass through here.
    let whole = tile.columns == COLUMNS && tile.rows.is_multiple_of(ROWS) && steps > 0;
    let part = |v: usize| mask16(tile.columns.saturating_sub(v * ROWS));
    let c_of = |i: usize, v: usize| tile.c.wrapping_add(i * tile.c_stride + v * ROWS);
    // SAFETY: for the whole body: rows and columns of the tile in C and the bias, others are masked; there are 32 rows of 32
    // sums, and those of the tile's rows are written before they are read, here or by the product, which may start others from
    // whatever is there; A and B are as the caller says.
    unsafe {
        if !whole && (tile.load_c || steps == 0) {
            for i in 0..tile.rows {
                for v in 0..2 {
                    let read = if tile.load_c { part(v) } else { 0 };
                    let from = _mm512_maskz_loadu_ps(read, c_of(i, v));
                    _mm512_storeu_ps(sums.add(i * COLUMNS + v * ROWS), from);
                }
            }
        }
        let (to, stride) = if whole {
            (tile.c, tile.c_stride)
        } else {
            (sums, COLUMNS)
        };
        let (starts, start_stride) = if tile.load_c {
            (to.cast_const(), stride)
        } else {
            (ZEROS.0.as_ptr(), 0)
        };
        if steps > 0 {
            let second = tile.a.wrapping_add(tile.words * ROWS);
            Registers::multiply(
                Numbers::Bf16,
                &Tiles {
                    a: tile.a.cast(),
                    second: if tile.rows > ROWS {
                        second.cast()
                    } else {
                        std::ptr::null()
                    },
                    a_stride: amx::ROW,
                    a_step: ROWS * amx::ROW,
                    b: tile.b.cast(),
                    b_stride: 2 * amx::ROW,
                    steps,
                    starts: starts.cast(),
                    start_stride: 4 * start_stride,
                    sums: to.cast(),
                    sum_stride: 4 * stride,
                    // The next tile's lines of C.
                    next: tile.c.wrapping_add(COLUMNS).cast(),
                    next_stride: 4 * tile.c_stride,
                    next_count: tile.rows.div_ceil(steps),
                },
            );
        }
        if whole && tile.bias.is_null() {
            return;
        }
        for v in 0..2 {
            let bias = if tile.bias.is_null() {
                _mm512_setzero_ps()
            } else {
                _mm512_maskz_loadu_ps(part(v), tile.bias.wrapping_add(v * ROWS))
            };
            for i in 0..tile.rows {
                let sum = _mm512_loadu_ps(to.wrapping_add(i * stride + v * ROWS));
                _mm512_mask_storeu_ps(c_of(i, v), part(v), _mm512_add_ps(sum, bias));
            }
        }
    }
}
