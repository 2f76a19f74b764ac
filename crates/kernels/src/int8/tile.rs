//! The innermost product of bytes: a few rows by one panel, or half of one, all sums in registers.

#[cfg(target_arch = "x86_64")]
use super::bytes::Vnni;
use super::bytes::{Bytes, RowLayout};
use super::panels::{Line, PANEL};
use crate::isa::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd, prefetch};

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

    /// How the rows must lie.
    pub(super) fn row_layout(self) -> RowLayout {
        match self.0 {
            Code::Plain => Plain::LAYOUT,
            #[cfg(target_arch = "x86_64")]
            Code::Avx2 => Avx2::LAYOUT,
            #[cfg(target_arch = "x86_64")]
            Code::Avx512 => Avx512::<false>::LAYOUT,
            #[cfg(target_arch = "x86_64")]
            Code::Vnni => Vnni::LAYOUT,
        }
    }

    /// How `m` rows are cut into tiles.
    pub(super) fn shape(self, m: usize) -> Shape {
        match self.0 {
            Code::Plain => Shape::new::<Plain>(m),
            #[cfg(target_arch = "x86_64")]
            Code::Avx2 => Shape::new::<Avx2>(m),
            #[cfg(target_arch = "x86_64")]
            Code::Avx512 => Shape::new::<Avx512<false>>(m),
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

    /// Vectors of columns.
    pub(super) fn vectors(self) -> usize {
        if self.wide { 4 } else { 2 }
    }
}

/// One tile: its rows, `n` columns up to the shape's, `groups` of 4 k.
pub(super) struct Tile {
    pub(super) n: usize,
    pub(super) groups: usize,
    /// Activations with 128 added, as the kernel's [`RowLayout`] says, rows `a_stride` bytes apart.
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
    /// What of B is wanted next, and how many bytes of it are asked for in each group of k and vector: only hints.
    pub(super) next: *const u8,
    pub(super) next_step: usize,
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
    unsafe { by_rows::<Avx512<false>>(shape, m, tile) }
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
            match m {
                // SAFETY: passed on from `run_tile`.
                $($rows => unsafe {
                    if shape.wide && $rows <= S::WIDE_ROWS {
                        multiply::<S, $rows, 4>(tile)
                    } else if !shape.wide && $rows <= S::ROWS {
                        multiply::<S, $rows, 2>(tile)
                    } else {
                        unreachable!("a tile of another kernel's shape")
                    }
                },)*
                _ => unreachable!("no tile has {m} rows"),
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8)
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
        for i in 0..M {
            // C's lines too, or each store would wait for its own. There is one more where C lies across lines.
            for v in 0..=V {
                let offset = (v * lanes).min(tile.n.saturating_sub(1));
                prefetch(tile.c.wrapping_add(i * tile.c_stride + offset));
            }
        }
        let (mut a, mut b, mut next) = (tile.a, tile.b, tile.next);
        for _ in 0..tile.groups {
            let mut columns = [S::columns(b); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::columns(b.add(v * lanes));
                S::Float::prefetch(next);
                next = next.wrapping_add(tile.next_step);
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let x = S::row(a.add(i * tile.a_stride));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = S::dot(*sum, x, column);
                }
            }
            a = a.add(S::LAYOUT.group_bytes());
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

/// A pointer to one panel's words, from a slice of its lines.
pub(super) fn words(lines: &[Line]) -> *const u32 {
    lines.as_ptr().cast()
}
