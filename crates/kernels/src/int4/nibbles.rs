//! Sums of products of signed bytes and nibbles, for each instruction set.

use crate::simd::{Plain, Simd};

/// Sums of products of signed bytes and nibbles from 0 to 15 in vectors.
pub(super) trait Nibbles {
    /// Vectors of f32 with as many lanes.
    type Float: Simd;
    /// One i32 for each column.
    type Sums: Copy;
    /// The same 4 numbers of a row in every lane, ready to be multiplied.
    type Row: Copy;
    /// 4 nibbles for each column, ready to be multiplied.
    type Columns: Copy;
    /// Whether rows lie in 16 bits.
    const WIDENED: bool;
    /// Rows of a tile of 4 vectors, at most.
    const WIDE_ROWS: usize;
    /// Rows of a tile of 2 vectors, at most.
    const ROWS: usize;

    /// The same number in every lane.
    ///
    /// # Safety
    /// The CPU has the instruction set, and all lanes, or all numbers of four, may be read. (So for every function here.)
    unsafe fn splat(x: i32) -> Self::Sums;
    /// Four numbers of a row.
    unsafe fn row(p: *const u8) -> Self::Row;
    /// Eight nibbles for each column: the first four, and the others.
    unsafe fn columns(p: *const u32) -> [Self::Columns; 2];
    /// Adds the 4 products of each lane to its sum.
    unsafe fn dot(sums: Self::Sums, row: Self::Row, columns: Self::Columns) -> Self::Sums;
    /// The scales of the columns, from bf16.
    unsafe fn scales(p: *const u16) -> <Self::Float as Simd>::Vector;
    /// `float(sums) · (row · columns) + c`, the product and the sum rounded once.
    unsafe fn finish(
        sums: Self::Sums,
        row: f32,
        columns: <Self::Float as Simd>::Vector,
        c: <Self::Float as Simd>::Vector,
    ) -> <Self::Float as Simd>::Vector;
}

/// The nibbles of each byte: the low ones, and the high ones.
const LOW: u32 = 0x0F0F_0F0F;

impl Nibbles for Plain {
    type Float = Plain;
    type Sums = [i32; 8];
    type Row = [i32; 4];
    type Columns = [u32; 8];
    const WIDENED: bool = false;
    const WIDE_ROWS: usize = 1;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: i32) -> [i32; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn row(p: *const u8) -> [i32; 4] {
        // SAFETY: the caller lets 4 bytes be read.
        unsafe { p.cast::<[i8; 4]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn columns(p: *const u32) -> [[u32; 8]; 2] {
        // SAFETY: the caller lets 8 numbers be read.
        let words = unsafe { p.cast::<[u32; 8]>().read_unaligned() };
        [0, 4].map(|shift| words.map(|word| word >> shift & LOW))
    }
    #[inline(always)]
    unsafe fn dot(mut sums: [i32; 8], row: [i32; 4], columns: [u32; 8]) -> [i32; 8] {
        for (sum, word) in sums.iter_mut().zip(columns) {
            for (t, x) in row.iter().enumerate() {
                *sum += x * (word >> (8 * t) & 15) as i32;
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn scales(p: *const u16) -> [f32; 8] {
        // SAFETY: the caller lets 8 numbers be read.
        let bits = unsafe { p.cast::<[u16; 8]>().read_unaligned() };
        bits.map(|bits| f32::from_bits(u32::from(u16::from_le(bits)) << 16))
    }
    #[inline(always)]
    unsafe fn finish(sums: [i32; 8], row: f32, columns: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|l| (sums[l] as f32).mul_add(row * columns[l], c[l]))
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Dot;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::Vnni;

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{LOW, Nibbles, Plain};
    use std::arch::aarch64::*;
    use std::arch::asm;
    use std::mem::transmute;

    /// NEON with `sdot`, which takes both sides signed, as nibbles are too.
    pub(in crate::int4) struct Dot;

    // SAFETY (all functions): the instruction set is the caller's promise, and so is what may be read.
    impl Nibbles for Dot {
        type Float = Plain;
        type Sums = [int32x4_t; 2];
        type Row = int8x16_t;
        type Columns = [int8x16_t; 2];
        const WIDENED: bool = false;
        // Of 32 registers: a sum in integers and one in f32 for each of 2 · 4 or of 2 · 2 vectors of 4 columns.
        const WIDE_ROWS: usize = 1;
        const ROWS: usize = 2;

        #[inline(always)]
        unsafe fn splat(x: i32) -> [int32x4_t; 2] {
            // SAFETY: see above.
            unsafe { [vdupq_n_s32(x); 2] }
        }
        #[inline(always)]
        unsafe fn row(p: *const u8) -> int8x16_t {
            // SAFETY: see above.
            unsafe { vreinterpretq_s8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned())) }
        }
        #[inline(always)]
        unsafe fn columns(p: *const u32) -> [[int8x16_t; 2]; 2] {
            // SAFETY: see above.
            unsafe {
                let words = [vld1q_u32(p), vld1q_u32(p.add(4))];
                let mask = vdupq_n_u32(LOW);
                let low = words.map(|words| vreinterpretq_s8_u32(vandq_u32(words, mask)));
                let high = words
                    .map(|words| vreinterpretq_s8_u32(vandq_u32(vshrq_n_u32::<4>(words), mask)));
                [low, high]
            }
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
        unsafe fn scales(p: *const u16) -> [f32; 8] {
            // SAFETY: see above.
            unsafe { <Plain as Nibbles>::scales(p) }
        }
        #[inline(always)]
        unsafe fn finish(
            sums: [int32x4_t; 2],
            row: f32,
            columns: [f32; 8],
            c: [f32; 8],
        ) -> [f32; 8] {
            // SAFETY: see above; both types are eight i32.
            unsafe {
                let sums = transmute::<[int32x4_t; 2], [i32; 8]>(sums);
                <Plain as Nibbles>::finish(sums, row, columns, c)
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LOW, Nibbles};
    use crate::simd::{Avx2, Avx512};
    use std::arch::x86_64::*;

    // Without VNNI both sides are widened to 16 bits, those of rows when they are quantized: those at even positions of four and
    // those at odd positions, two of each, whose products `madd` sums in 32 bits.

    // SAFETY (all functions): the instruction set is the caller's promise, and so is what may be read.
    impl Nibbles for Avx2 {
        type Float = Avx2;
        type Sums = __m256i;
        type Row = [__m256i; 2];
        type Columns = [__m256i; 2];
        const WIDENED: bool = true;
        const WIDE_ROWS: usize = 1;
        const ROWS: usize = 2;

        #[inline(always)]
        unsafe fn splat(x: i32) -> __m256i {
            // SAFETY: see above.
            unsafe { _mm256_set1_epi32(x) }
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
        unsafe fn columns(p: *const u32) -> [[__m256i; 2]; 2] {
            // SAFETY: see above.
            unsafe {
                let words = _mm256_loadu_si256(p.cast());
                let mask = _mm256_set1_epi16(15);
                let low = [words, _mm256_srli_epi16::<8>(words)];
                let high = [
                    _mm256_srli_epi16::<4>(words),
                    _mm256_srli_epi16::<12>(words),
                ];
                [low, high].map(|pair| pair.map(|words| _mm256_and_si256(words, mask)))
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
        unsafe fn scales(p: *const u16) -> __m256 {
            // SAFETY: see above.
            unsafe {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            }
        }
        #[inline(always)]
        unsafe fn finish(sums: __m256i, row: f32, columns: __m256, c: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe {
                let scale = _mm256_mul_ps(_mm256_set1_ps(row), columns);
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, c)
            }
        }
    }

    // SAFETY (all functions): as for `Avx2`.
    impl Nibbles for Avx512<false> {
        type Float = Avx512<false>;
        type Sums = __m512i;
        type Row = [__m512i; 2];
        type Columns = [__m512i; 2];
        const WIDENED: bool = true;
        const WIDE_ROWS: usize = 2;
        const ROWS: usize = 4;

        #[inline(always)]
        unsafe fn splat(x: i32) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_set1_epi32(x) }
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
        unsafe fn columns(p: *const u32) -> [[__m512i; 2]; 2] {
            // SAFETY: see above.
            unsafe {
                let words = _mm512_loadu_si512(p.cast());
                let mask = _mm512_set1_epi16(15);
                let low = [words, _mm512_srli_epi16::<8>(words)];
                let high = [
                    _mm512_srli_epi16::<4>(words),
                    _mm512_srli_epi16::<12>(words),
                ];
                [low, high].map(|pair| pair.map(|words| _mm512_and_si512(words, mask)))
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
        unsafe fn scales(p: *const u16) -> __m512 {
            // SAFETY: see above.
            unsafe {
                let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
            }
        }
        #[inline(always)]
        unsafe fn finish(sums: __m512i, row: f32, columns: __m512, c: __m512) -> __m512 {
            // SAFETY: see above.
            unsafe {
                let scale = _mm512_mul_ps(_mm512_set1_ps(row), columns);
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, c)
            }
        }
    }

    /// AVX-512 with an instruction for this very sum, whose unsigned side are the nibbles.
    pub(in crate::int4) struct Vnni;

    // SAFETY (all functions): as for `Avx2`.
    impl Nibbles for Vnni {
        type Float = Avx512<false>;
        type Sums = __m512i;
        type Row = __m512i;
        type Columns = __m512i;
        const WIDENED: bool = false;
        const WIDE_ROWS: usize = 2;
        const ROWS: usize = 5;

        #[inline(always)]
        unsafe fn splat(x: i32) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_set1_epi32(x) }
        }
        #[inline(always)]
        unsafe fn row(p: *const u8) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn columns(p: *const u32) -> [__m512i; 2] {
            // SAFETY: see above.
            unsafe {
                let words = _mm512_loadu_si512(p.cast());
                let mask = _mm512_set1_epi32(LOW as i32);
                let high = _mm512_srli_epi32::<4>(words);
                [words, high].map(|words| _mm512_and_si512(words, mask))
            }
        }
        #[inline(always)]
        unsafe fn dot(sums: __m512i, row: __m512i, columns: __m512i) -> __m512i {
            // SAFETY: see above.
            unsafe { _mm512_dpbusd_epi32(sums, columns, row) }
        }
        #[inline(always)]
        unsafe fn scales(p: *const u16) -> __m512 {
            // SAFETY: see above.
            unsafe { <Avx512<false> as Nibbles>::scales(p) }
        }
        #[inline(always)]
        unsafe fn finish(sums: __m512i, row: f32, columns: __m512, c: __m512) -> __m512 {
            // SAFETY: see above.
            unsafe { <Avx512<false> as Nibbles>::finish(sums, row, columns, c) }
        }
    }
}
