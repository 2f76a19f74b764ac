//! The innermost product of bytes and nibbles: a few rows by one panel, or half of one, all sums in registers.

#[cfg(target_arch = "aarch64")]
use super::nibbles::Dot;
use super::nibbles::Nibbles;
#[cfg(target_arch = "x86_64")]
use super::nibbles::Vnni;
use super::{GROUP, LINES, NIBBLE_LINES};
use crate::isa::{Isa, Level};
use crate::panels::{LINE, Line};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd};

/// Code for a product of bytes and nibbles that the running CPU can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel(Code);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Plain,
    /// NEON with `sdot`.
    #[cfg(target_arch = "aarch64")]
    Dot,
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
            Level::Neon if isa.has_sdot() => Code::Dot,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => Code::Plain,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Code::Avx2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Amx if isa.has_vnni() => Code::Vnni,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Amx => Code::Avx512,
        })
    }

    /// All that an instruction set can run: where it has VNNI or `sdot`, the code for CPUs without it too.
    #[cfg(test)]
    pub(super) fn all(isa: Isa) -> Vec<Self> {
        let best = Self::new(isa);
        #[cfg(target_arch = "x86_64")]
        if best.0 == Code::Vnni {
            return vec![Kernel(Code::Avx512), best];
        }
        #[cfg(target_arch = "aarch64")]
        if best.0 == Code::Dot {
            return vec![Kernel(Code::Plain), best];
        }
        vec![best]
    }

    /// Whether rows must lie in 16 bits.
    pub(super) fn is_widened(self) -> bool {
        match self.0 {
            Code::Plain => Plain::WIDENED,
            #[cfg(target_arch = "aarch64")]
            Code::Dot => Dot::WIDENED,
            #[cfg(target_arch = "x86_64")]
            Code::Avx2 => Avx2::WIDENED,
            #[cfg(target_arch = "x86_64")]
            Code::Avx512 => Avx512::<false>::WIDENED,
            #[cfg(target_arch = "x86_64")]
            Code::Vnni => Vnni::WIDENED,
        }
    }

    /// How `m` rows are cut into tiles.
    pub(super) fn shape(self, m: usize) -> Shape {
        match self.0 {
            Code::Plain => Shape::new::<Plain>(m),
            #[cfg(target_arch = "aarch64")]
            Code::Dot => Shape::new::<Dot>(m),
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
    wide: bool,
}

impl Shape {
    /// Few rows take 4 vectors of columns, so that there are enough independent sums. More take 2 and are cut evenly.
    fn new<S: Nibbles>(m: usize) -> Self {
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

/// One tile: its rows, `n` columns up to the shape's, `groups` of 32 k.
pub(super) struct Tile {
    pub(super) n: usize,
    pub(super) groups: usize,
    /// The panel's column that is the tile's first.
    pub(super) first: usize,
    /// Signed activations, in a byte or in 16 bits each, rows `a_stride` bytes apart.
    pub(super) a: *const u8,
    pub(super) a_stride: usize,
    /// `groups` scales for each row.
    pub(super) a_scales: *const f32,
    /// What sums start from: as many.
    pub(super) a_starts: *const i32,
    /// The panel.
    pub(super) b: *const Line,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    /// What is added to the rows: null for nothing.
    pub(super) addend: *const f32,
    pub(super) addend_stride: usize,
}

/// # Safety
/// `m` is at most the shape's rows for the kernel, and every number that the tile names can be read (A, its scales and starts, B,
/// addend) or written (C).
pub(super) unsafe fn run_tile(kernel: Kernel, shape: Shape, m: usize, tile: &Tile) {
    // SAFETY: passed on to the caller; a `Kernel` exists only where the CPU can run it.
    unsafe {
        match kernel.0 {
            Code::Plain => by_rows::<Plain>(shape, m, tile),
            #[cfg(target_arch = "aarch64")]
            Code::Dot => dot(shape, m, tile),
            #[cfg(target_arch = "x86_64")]
            Code::Avx2 => avx2(shape, m, tile),
            #[cfg(target_arch = "x86_64")]
            Code::Avx512 => avx512(shape, m, tile),
            #[cfg(target_arch = "x86_64")]
            Code::Vnni => vnni(shape, m, tile),
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,dotprod")]
unsafe fn dot(shape: Shape, m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Dot>(shape, m, tile) }
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

#[inline(always)]
unsafe fn by_rows<S: Nibbles>(shape: Shape, m: usize, tile: &Tile) {
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
    pick!(1 2 3 4 5)
}

/// M rows by V vectors of columns.
#[inline(always)]
unsafe fn multiply<S: Nibbles, const M: usize, const V: usize>(tile: &Tile) {
    let lanes = S::Float::LANES;
    let four = if S::WIDENED { 8 } else { 4 };
    // SAFETY: for the whole body: rows below M, groups below `groups` and the shape's columns from `first` on may be read in A, its
    // scales and starts, and B, and columns below n in the addend and C (see `run_tile`); loads and stores there are cut to those.
    unsafe {
        let mut c = [[S::Float::zero(); V]; M];
        for group in 0..tile.groups {
            let lines = tile.b.add(group * LINES);
            let a = tile.a.add(group * GROUP / 4 * four);
            let mut sums = [[S::splat(0); V]; M];
            for (i, row) in sums.iter_mut().enumerate() {
                *row = [S::splat(*tile.a_starts.add(i * tile.groups + group)); V];
            }
            for eight in 0..4 {
                let mut columns = [S::columns(tile.b.cast()); V];
                for (v, columns) in columns.iter_mut().enumerate() {
                    let column = tile.first + v * lanes;
                    let line = lines.add(column / LINE * 4 + eight);
                    *columns = S::columns(line.cast::<u32>().add(column % LINE));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let a = a.add(i * tile.a_stride + 2 * eight * four);
                    let (first, second) = (S::row(a), S::row(a.add(four)));
                    for (sum, [low, high]) in row.iter_mut().zip(columns) {
                        *sum = S::dot(S::dot(*sum, first, low), second, high);
                    }
                }
            }
            let scales = lines.add(NIBBLE_LINES).cast::<u16>();
            for v in 0..V {
                let scales = S::scales(scales.add(tile.first + v * lanes));
                for (i, (sums, c)) in sums.iter().zip(&mut c).enumerate() {
                    let scale = *tile.a_scales.add(i * tile.groups + group);
                    c[v] = S::finish(sums[v], scale, scales, c[v]);
                }
            }
        }
        for (i, row) in c.iter().enumerate() {
            for (v, c) in row.iter().enumerate() {
                let n = tile.n.saturating_sub(v * lanes).min(lanes);
                let mut c = *c;
                if !tile.addend.is_null() {
                    let offset = i * tile.addend_stride + v * lanes;
                    c = S::Float::add(c, S::Float::load(tile.addend.wrapping_add(offset), n));
                }
                let to = tile.c.wrapping_add(i * tile.c_stride + v * lanes);
                S::Float::store(to, c, n);
            }
        }
    }
}
