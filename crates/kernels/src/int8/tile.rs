//! The innermost product of bytes: a few rows by one panel, or half of one, all sums in registers.

use super::pack::{GROUP, Line, PANEL};
use crate::isa::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd};

/// Code for a product of bytes that the running CPU can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel(Code);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 without VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Kernel {
    /// The best of an instruction set.
    pub(super) fn new(isa: Isa) -> Self {
        Kernel(match isa.0 {
            Level::Scalar => Code::Plain,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => Code::Plain,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Code::Avx2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if isa.has_vnni() => Code::Vnni,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Code::Avx512,
        })
    }

    /// All that an instruction set can run: where it has VNNI, the code for CPUs without it too.
    #[cfg(test)]
    pub(super) fn all(isa: Isa) -> Vec<Self> {
        let best = Self::new(isa);
        #[cfg(target_arch = "x86_64")]
        if best.0 == Code::Vnni {
            return vec![Kernel(Code::Avx512), best];
        }
        vec![best]
    }

    /// How `m` rows are cut into tiles.
    pub(super) fn shape(self, m: usize) -> Shape {
        match self.0 {
            Code::Plain => Shape::new::<Plain>(m),
            #[cfg(target_arch = "x86_64")]
            Code::Avx2 => Shape::new::<Avx2>(m),
            #[cfg(target_arch = "x86_64")]
            Code::Avx512 => Shape::new::<Avx512>(m),
            #[cfg(target_arch = "x86_64")]
            Code::Vnni => Shape::new::<Vnni>(m),
        }
    }
}

/// The size of the tiles of one product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Rows, at most.
    pub(super) rows: usize,
    /// Columns: a panel is a multiple of it.
    pub(super) columns: usize,
    /// Four vectors of columns, else two.
    wide: bool,
}

impl Shape {
    /// Few rows take 4 vectors of columns, so that there are enough independent sums. More take 2 and are cut evenly.
    fn new<S: Bytes>(m: usize) -> Self {
        let wide = m <= S::WIDE_ROWS;
        let most = if wide { S::WIDE_ROWS } else { S::ROWS };
        let tiles = m.div_ceil(most).max(1);
        Shape {
            rows: m.div_ceil(tiles).max(1),
            columns: if wide { 4 } else { 2 } * S::Float::LANES,
            wide,
        }
    }
}

/// One tile: its rows, `n` columns up to the shape's, `groups` of 4 k.
pub(super) struct Tile {
    pub(super) n: usize,
    pub(super) groups: usize,
    /// Activations with 128 added, rows `a_stride` bytes apart.
    pub(super) a: *const u8,
    pub(super) a_stride: usize,
    /// One scale for each row.
    pub(super) a_scales: *const f32,
    /// The first column's first group; groups are a panel apart.
    pub(super) b: *const u32,
    /// One scale for each of the shape's columns.
    pub(super) b_scales: *const f32,
    /// What each of the shape's columns' sums starts from.
    pub(super) starts: *const i32,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    /// What is added to the rows: null for nothing.
    pub(super) addend: *const f32,
    pub(super) addend_stride: usize,
}

/// Sums of products of bytes in vectors.
trait Bytes {
    /// Vectors of f32 with as many lanes.
    type Float: Simd;
    /// One i32 for each column.
    type Sums: Copy;
    /// The same 4 unsigned bytes in every lane, ready to be multiplied.
    type Row: Copy;
    /// 4 signed bytes for each column, ready to be multiplied.
    type Columns: Copy;
    /// Rows of a tile of 4 vectors, at most.
    const WIDE_ROWS: usize;
    /// Rows of a tile of 2 vectors, at most.
    const ROWS: usize;

    /// Sums from `p`.
    ///
    /// # Safety
    /// The CPU has the instruction set, and all lanes may be read. (So for every function here.)
    unsafe fn load(p: *const i32) -> Self::Sums;
    /// 4 bytes of a row.
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

/// # Safety
/// `m` is at most the shape's rows for the kernel, and every number that the tile names can be read (A, B, scales,
/// starts, addend) or written (C).
pub(super) unsafe fn run_tile(kernel: Kernel, shape: Shape, m: usize, tile: &Tile) {
    // SAFETY: passed on to the caller; a `Kernel` exists only where the CPU can run it.
    unsafe {
        match kernel.0 {
            Code::Plain => by_rows::<Plain>(shape, m, tile),
            #[cfg(target_arch = "x86_64")]
            Code::Avx2 => avx2(shape, m, tile),
            #[cfg(target_arch = "x86_64")]
            Code::Avx512 => avx512(shape, m, tile),
            #[cfg(target_arch = "x86_64")]
            Code::Vnni => vnni(shape, m, tile),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(shape: Shape, m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Avx2>(shape, m, tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
unsafe fn avx512(shape: Shape, m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Avx512>(shape, m, tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
unsafe fn vnni(shape: Shape, m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Vnni>(shape, m, tile) }
}

/// Picks the code for the tile's number of rows and of vectors. Sizes that no shape has are left out of the program.
#[inline(always)]
unsafe fn by_rows<S: Bytes>(shape: Shape, m: usize, tile: &Tile) {
    macro_rules! pick {
        ($($rows:literal)*) => {
            match (m, shape.wide) {
                // SAFETY: passed on from `run_tile`.
                $(($rows, true) if $rows <= S::WIDE_ROWS => unsafe { multiply::<S, $rows, 4>(tile) },
                ($rows, false) if $rows <= S::ROWS => unsafe { multiply::<S, $rows, 2>(tile) },)*
                _ => unreachable!("no tile has {m} rows"),
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12)
}

/// M rows by V vectors of columns.
#[inline(always)]
unsafe fn multiply<S: Bytes, const M: usize, const V: usize>(tile: &Tile) {
    let lanes = S::Float::LANES;
    // SAFETY: for the whole body: rows below M, groups below `groups` and the shape's columns may be read in A, B, scales
    // and starts, and columns below n in the addend and C (see `run_tile`); loads and stores there are cut to those.
    unsafe {
        let mut sums = [[S::load(tile.starts); V]; M];
        for row in &mut sums {
            for (v, sum) in row.iter_mut().enumerate() {
                *sum = S::load(tile.starts.add(v * lanes));
            }
        }
        let (mut a, mut b) = (tile.a, tile.b);
        for _ in 0..tile.groups {
            let mut columns = [S::columns(b); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::columns(b.add(v * lanes));
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let x = S::row(a.add(i * tile.a_stride));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = S::dot(*sum, x, column);
                }
            }
            a = a.add(GROUP);
            b = b.wrapping_add(PANEL);
        }
        for (i, row) in sums.iter().enumerate() {
            let row_scale = *tile.a_scales.add(i);
            for (v, sum) in row.iter().enumerate() {
                let n = tile.n.saturating_sub(v * lanes).min(lanes);
                let addend = if tile.addend.is_null() {
                    S::Float::zero()
                } else {
                    S::Float::load(
                        tile.addend.wrapping_add(i * tile.addend_stride + v * lanes),
                        n,
                    )
                };
                let result = S::finish(*sum, row_scale, tile.b_scales.add(v * lanes), addend);
                S::Float::store(
                    tile.c.wrapping_add(i * tile.c_stride + v * lanes),
                    result,
                    n,
                );
            }
        }
    }
}

impl Bytes for Plain {
    type Float = Plain;
    type Sums = [i32; 8];
    type Row = [i32; GROUP];
    type Columns = [u32; 8];
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

/// A pointer to one panel's words, from a slice of its lines.
pub(super) fn words(lines: &[Line]) -> *const u32 {
    lines.as_ptr().cast()
}

#[cfg(target_arch = "x86_64")]
use x86::Vnni;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Avx2, Avx512, Bytes};
    use std::arch::x86_64::*;

    // Without VNNI the bytes are widened to 16 bits: those at even places and those at odd places of each lane, two of
    // each, whose products `madd` sums in 32 bits. (Multiplying bytes directly would sum pairs in 16 bits, saturated:
    // 2 · 255 · 127 does not fit.)

    // SAFETY (all functions): the instruction set is the caller's promise, and so is what may be read.
    impl Bytes for Avx2 {
        type Float = Avx2;
        type Sums = __m256i;
        type Row = [__m256i; 2];
        type Columns = [__m256i; 2];
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
                let bytes = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
                let even = _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF));
                [even, _mm256_srli_epi16::<8>(bytes)]
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
    impl Bytes for Avx512 {
        type Float = Avx512;
        type Sums = __m512i;
        type Row = [__m512i; 2];
        type Columns = [__m512i; 2];
        const WIDE_ROWS: usize = 2;
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
                let bytes = _mm512_set1_epi32(p.cast::<i32>().read_unaligned());
                let even = _mm512_and_si512(bytes, _mm512_set1_epi16(0xFF));
                [even, _mm512_srli_epi16::<8>(bytes)]
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
    pub(super) struct Vnni;

    // SAFETY (all functions): as for `Avx2`.
    impl Bytes for Vnni {
        type Float = Avx512;
        type Sums = __m512i;
        type Row = __m512i;
        type Columns = __m512i;
        const WIDE_ROWS: usize = 6;
        const ROWS: usize = 12;

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
            unsafe { <Avx512 as Bytes>::finish(sums, row, columns, addend) }
        }
    }
}
