//! Sums of products of unsigned and signed bytes, for each instruction set.

use crate::panels::GROUP;
use crate::simd::{Plain, Simd};

/// How the numbers of a quantized row lie in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum RowLayout {
    /// As bytes.
    #[default]
    Bytes,
    /// In 16 bits, those at even positions of a group before those at odd ones: what every tile would make of the bytes again.
    Widened,
}

impl RowLayout {
    /// Bytes of a group of 4.
    pub(super) const fn group_bytes(self) -> usize {
        match self {
            RowLayout::Bytes => GROUP,
            RowLayout::Widened => 2 * GROUP,
        }
    }
}

/// Sums of products of bytes in vectors.
pub(super) trait Bytes {
    /// Vectors of f32 with as many lanes.
    type Float: Simd;
    /// One i32 for each column.
    type Sums: Copy;
    /// The same 4 numbers of a row in every lane, ready to be multiplied.
    type Row: Copy;
    /// 4 signed bytes for each column, ready to be multiplied.
    type Columns: Copy;
    /// How rows lie in memory.
    const LAYOUT: RowLayout;
    /// Rows of a tile of 4 vectors, at most.
    const WIDE_ROWS: usize;
    /// Rows of a tile of 2 vectors, at most.
    const ROWS: usize;

    /// Sums from `p`.
    ///
    /// # Safety
    /// The CPU has the instruction set, and all lanes, or all bytes of a group, may be read. (So for every function here.)
    unsafe fn load(p: *const i32) -> Self::Sums;
    /// A group of a row, which lies as [`Bytes::LAYOUT`] says.
    unsafe fn row(p: *const u8) -> Self::Row;
    /// 4 bytes for each column.
    unsafe fn columns(p: *const u32) -> Self::Columns;
    /// Adds the 4 products of each lane to its sum, modulo 2³²: nothing saturates.
    unsafe fn dot(sums: Self::Sums, row: Self::Row, columns: Self::Columns) -> Self::Sums;
    /// `float(sums) · (row · columns) + addend`, the product and the sum rounded once.
    unsafe fn finish(
        sums: Self::Sums,
        row: f32,
        columns: *const f32,
        addend: <Self::Float as Simd>::Vector,
    ) -> <Self::Float as Simd>::Vector;
}

impl Bytes for Plain {
    type Float = Plain;
    type Sums = [i32; 8];
    type Row = [i32; GROUP];
    type Columns = [u32; 8];
    const LAYOUT: RowLayout = RowLayout::Bytes;
    const WIDE_ROWS: usize = 1;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn load(p: *const i32) -> [i32; 8] {
        // SAFETY: the caller lets 8 numbers be read.
        unsafe { p.cast::<[i32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn row(p: *const u8) -> [i32; GROUP] {
        // SAFETY: the caller lets 4 bytes be read.
        unsafe { p.cast::<[u8; GROUP]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn columns(p: *const u32) -> [u32; 8] {
        // SAFETY: the caller lets 8 numbers be read.
        unsafe { p.cast::<[u32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn dot(mut sums: [i32; 8], row: [i32; GROUP], columns: [u32; 8]) -> [i32; 8] {
        for (sum, word) in sums.iter_mut().zip(columns) {
            for (t, x) in row.iter().enumerate() {
                let y = i32::from((word >> (8 * t)) as u8 as i8);
                *sum = sum.wrapping_add(x * y);
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn finish(sums: [i32; 8], row: f32, columns: *const f32, addend: [f32; 8]) -> [f32; 8] {
        // SAFETY: the caller lets 8 numbers be read.
        let columns = unsafe { Plain::load_full(columns) };
        std::array::from_fn(|l| (sums[l] as f32).mul_add(row * columns[l], addend[l]))
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Dot;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::Vnni;

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{Bytes, Plain, RowLayout};
    use std::arch::aarch64::*;
    use std::arch::asm;
    use std::mem::transmute;

    /// NEON with `sdot`, which takes both sides signed: rows lose their offset when they are loaded, and sums start from zero.
    pub(in crate::int8) struct Dot;

    // SAFETY (all functions): the instruction set is the caller's promise, and so is what may be read.
    impl Bytes for Dot {
        type Float = Plain;
        type Sums = [int32x4_t; 2];
        type Row = int8x16_t;
        type Columns = [int8x16_t; 2];
        const LAYOUT: RowLayout = RowLayout::Bytes;
        // Of 32 registers: 16 of sums and 8 of columns, or 24 of sums and 4 of columns.
        const WIDE_ROWS: usize = 2;
        const ROWS: usize = 6;

        #[inline(always)]
        unsafe fn load(_: *const i32) -> [int32x4_t; 2] {
            // SAFETY: see above.
            unsafe { [vdupq_n_s32(0); 2] }
        }
        #[inline(always)]
        unsafe fn row(p: *const u8) -> int8x16_t {
            // SAFETY: see above.
            unsafe {
                let unsigned = p.cast::<u32>().read_unaligned();
                vreinterpretq_s8_u32(vdupq_n_u32(unsigned ^ 0x8080_8080))
            }
        }
        #[inline(always)]
        unsafe fn columns(p: *const u32) -> [int8x16_t; 2] {
            // SAFETY: see above.
            unsafe { [vld1q_s8(p.cast()), vld1q_s8(p.add(4).cast())] }
        }
        #[inline(always)]
        unsafe fn dot(
            mut sums: [int32x4_t; 2],
            row: int8x16_t,
            columns: [int8x16_t; 2],
        ) -> [int32x4_t; 2] {
            for (sum, column) in sums.iter_mut().zip(columns) {
                // SAFETY: the instruction reads and writes registers alone. (Stable Rust has no name for it.)
                unsafe {
                    asm!(
                        ".arch_extension dotprod",
                        "sdot {sum:v}.4s, {column:v}.16b, {row:v}.16b",
                        sum = inout(vreg) *sum,
                        column = in(vreg) column,
                        row = in(vreg) row,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
            sums
        }
        #[inline(always)]
        unsafe fn finish(
            sums: [int32x4_t; 2],
            row: f32,
            columns: *const f32,
            addend: [f32; 8],
        ) -> [f32; 8] {
            // SAFETY: see above; both types are eight i32.
            unsafe {
                let sums = transmute::<[int32x4_t; 2], [i32; 8]>(sums);
                <Plain as Bytes>::finish(sums, row, columns, addend)
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Bytes, RowLayout};
    use crate::simd::{Avx2, Avx512};
    use std::arch::x86_64::*;

    // Without VNNI the bytes are widened to 16 bits, those of rows when they are quantized ([`RowLayout`]), those of columns here:
    // those at even positions and those at odd positions of each lane, two of each, whose products `madd` sums in 32 bits. (Multiplying bytes directly would sum pairs in 16 bits, saturated:
    // 2 · 255 · 127 does not fit.)

    // SAFETY (all functions): the instruction set is the caller's promise, and so is what may be read.
    impl Bytes for Avx2 {
        type Float = Avx2;
        type Sums = __m256i;
        type Row = [__m256i; 2];
        type Columns = [__m256i; 2];
        const LAYOUT: RowLayout = RowLayout::Widened;
        const WIDE_ROWS: usize = 1;
        const ROWS: usize = 4;

        #[inline(always)]
        unsafe fn load(p: *const i32) -> __m256i {
            // SAFETY: see above.
            unsafe { _mm256_loadu_si256(p.cast()) }
        }
        #[inline(always)]
        unsafe fn row(p: *const u8) -> [__m256i; 2] {
            // SAFETY: see above.
            unsafe {
                let p = p.cast::<i32>();
                [p, p.add(1)].map(|pair| _mm256_set1_epi32(pair.read_unaligned()))
            }
        }
        #[inline(always)]
        unsafe fn columns(p: *const u32) -> [__m256i; 2] {
            // SAFETY: see above.
            unsafe {
                let bytes = _mm256_loadu_si256(p.cast());
                let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
                [even, _mm256_srai_epi16::<8>(bytes)]
            }
        }
        #[inline(always)]
        unsafe fn dot(sums: __m256i, row: [__m256i; 2], columns: [__m256i; 2]) -> __m256i {
            // SAFETY: see above.
            unsafe {
                let even = _mm256_madd_epi16(row[0], columns[0]);
                let odd = _mm256_madd_epi16(row[1], columns[1]);
                _mm256_add_epi32(_mm256_add_epi32(sums, even), odd)
            }
        }
        #[inline(always)]
        unsafe fn finish(sums: __m256i, row: f32, columns: *const f32, addend: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe {
                let scale = _mm256_mul_ps(_mm256_set1_ps(row), _mm256_loadu_ps(columns));
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, addend)
            }
        }
    }

    // SAFETY (all functions): as for `Avx2`.
    impl Bytes for Avx512<false> {
        type Float = Avx512<false>;
        type Sums = __m512i;
        type Row = [__m512i; 2];
        type Columns = [__m512i; 2];
        const LAYOUT: RowLayout = RowLayout::Widened;
        const WIDE_ROWS: usize = 6;
        const ROWS: usize = 8;

        #[inline(always)]
        unsafe fn load(p: *const i32) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn row(p: *const u8) -> [__m512i; 2] {
            // SAFETY: see above.
            unsafe {
                let p = p.cast::<i32>();
                [p, p.add(1)].map(|pair| _mm512_set1_epi32(pair.read_unaligned()))
            }
        }
        #[inline(always)]
        unsafe fn columns(p: *const u32) -> [__m512i; 2] {
            // SAFETY: see above.
            unsafe {
                let bytes = _mm512_loadu_si512(p.cast());
                let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(bytes));
                [even, _mm512_srai_epi16::<8>(bytes)]
            }
        }
        #[inline(always)]
        unsafe fn dot(sums: __m512i, row: [__m512i; 2], columns: [__m512i; 2]) -> __m512i {
            // SAFETY: see above.
            unsafe {
                let even = _mm512_madd_epi16(row[0], columns[0]);
                let odd = _mm512_madd_epi16(row[1], columns[1]);
                _mm512_add_epi32(_mm512_add_epi32(sums, even), odd)
            }
        }
        #[inline(always)]
        unsafe fn finish(sums: __m512i, row: f32, columns: *const f32, addend: __m512) -> __m512 {
            // SAFETY: see above.
            unsafe {
                let scale = _mm512_mul_ps(_mm512_set1_ps(row), _mm512_loadu_ps(columns));
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, addend)
            }
        }
    }

    /// AVX-512 with an instruction for this very sum.
    pub(in crate::int8) struct Vnni;

    // SAFETY (all functions): as for `Avx2`.
    impl Bytes for Vnni {
        type Float = Avx512<false>;
        type Sums = __m512i;
        type Row = __m512i;
        type Columns = __m512i;
        const LAYOUT: RowLayout = RowLayout::Bytes;
        const WIDE_ROWS: usize = 6;
        const ROWS: usize = 8;

        #[inline(always)]
        unsafe fn load(p: *const i32) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn row(p: *const u8) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn columns(p: *const u32) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn dot(sums: __m512i, row: __m512i, columns: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_dpbusd_epi32(sums, row, columns) }
        }
        #[inline(always)]
        unsafe fn finish(sums: __m512i, row: f32, columns: *const f32, addend: __m512) -> __m512 {
            // SAFETY: see above.
            unsafe { <Avx512<false> as Bytes>::finish(sums, row, columns, addend) }
        }
    }
}
