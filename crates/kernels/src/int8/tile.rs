//! The innermost product of bytes: a few rows by one panel, or half of one, all sums in registers.

#[cfg(target_arch = "aarch64")]
use super::bytes::Dot;
#[cfg(target_arch = "x86_64")]
use super::bytes::Vnni;
use super::bytes::{Bytes, RowLayout};
#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::isa::{Isa, Level};
use crate::panels::{Line, PANEL};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd, prefetch};
#[cfg(target_arch = "x86_64")]
use std::mem::MaybeUninit;

/// Code for a product of bytes that the running CPU can run.
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
    /// AMX where rows are enough and k fills its tiles, else VNNI.
    #[cfg(target_arch = "x86_64")]
    Amx,
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
            Level::Avx512 if isa.has_vnni() => Code::Vnni,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Code::Avx512,
            #[cfg(target_arch = "x86_64")]
            Level::Amx => Code::Amx,
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

    /// How the rows must lie.
    pub(super) fn row_layout(self) -> RowLayout {
        match self.0 {
            Code::Plain => Plain::LAYOUT,
            #[cfg(target_arch = "aarch64")]
            Code::Dot => Dot::LAYOUT,
            #[cfg(target_arch = "x86_64")]
            Code::Avx2 => Avx2::LAYOUT,
            #[cfg(target_arch = "x86_64")]
            Code::Avx512 => Avx512::<false>::LAYOUT,
            #[cfg(target_arch = "x86_64")]
            Code::Vnni | Code::Amx => Vnni::LAYOUT,
        }
    }

    /// How `m` rows of so many groups of k are cut into tiles.
    pub(super) fn shape(self, m: usize, groups: usize) -> Shape {
        // Which no other processor asks about.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = groups;
        match self.0 {
            Code::Plain => Shape::new::<Plain>(m),
            #[cfg(target_arch = "aarch64")]
            Code::Dot => Shape::new::<Dot>(m),
            #[cfg(target_arch = "x86_64")]
            Code::Avx2 => Shape::new::<Avx2>(m),
            #[cfg(target_arch = "x86_64")]
            Code::Avx512 => Shape::new::<Avx512<false>>(m),
            #[cfg(target_arch = "x86_64")]
            Code::Amx if m >= AMX_ROWS && groups > 0 && groups.is_multiple_of(amx::ROWS) => Shape {
                rows: m.min(amx::ROWS),
                columns: PANEL,
                way: Way::Amx,
            },
            #[cfg(target_arch = "x86_64")]
            Code::Vnni | Code::Amx => Shape::new::<Vnni>(m),
        }
    }
}

/// Fewer rows are faster without AMX, whose time is that of 16.
#[cfg(target_arch = "x86_64")]
const AMX_ROWS: usize = 6;

/// The size of the tiles of one product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Rows, at most.
    pub(super) rows: usize,
    /// Columns: a panel is a multiple of it.
    pub(super) columns: usize,
    way: Way,
}

/// How the columns of a tile are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    TwoVectors,
    FourVectors,
    #[cfg(target_arch = "x86_64")]
    Amx,
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
            way: if wide {
                Way::FourVectors
            } else {
                Way::TwoVectors
            },
        }
    }

    /// Vectors of columns.
    pub(super) fn vectors(self) -> usize {
        if self.way == Way::TwoVectors { 2 } else { 4 }
    }

    /// What has to be held while tiles of this shape are multiplied.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn registers(self) -> Option<amx::Registers> {
        (self.way == Way::Amx).then(amx::Registers::new)
    }

    /// Rows of A that a tile of `m` rows reads: those of AMX read whole tiles, and pay no heed to what else they find.
    pub(super) fn rows_read(self, m: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.way == Way::Amx {
            return m.next_multiple_of(amx::ROWS);
        }
        m
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
/// `m` is at most the shape's rows for the kernel, the shape's registers are held, and every number that the tile names can
/// be read (A, B, scales, starts, addend) or written (C).
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
            Code::Amx if shape.way == Way::Amx => tiles(m, tile),
            #[cfg(target_arch = "x86_64")]
            Code::Vnni | Code::Amx => vnni(shape, m, tile),
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

/// Picks the code for the tile's number of rows and of vectors. Sizes that no shape has are left out of the program.
#[inline(always)]
unsafe fn by_rows<S: Bytes>(shape: Shape, m: usize, tile: &Tile) {
    macro_rules! pick {
        ($($rows:literal)*) => {
            match m {
                // SAFETY: passed on from `run_tile`.
                $($rows => unsafe {
                    if shape.way == Way::FourVectors && $rows <= S::WIDE_ROWS {
                        multiply::<S, $rows, 4>(tile)
                    } else if shape.way == Way::TwoVectors && $rows <= S::ROWS {
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
            for (v, sum) in row.iter().enumerate() {
                finish::<S>(tile, i, v, *sum);
            }
        }
    }
}

/// Makes the output of vector `v` of row `i` of its sums.
#[inline(always)]
unsafe fn finish<S: Bytes>(tile: &Tile, i: usize, v: usize, sums: S::Sums) {
    let lanes = S::Float::LANES;
    let n = tile.n.saturating_sub(v * lanes).min(lanes);
    // SAFETY: row i and vector v are the tile's (see `run_tile`), and loads and stores are cut to its n columns.
    unsafe {
        let addend = if tile.addend.is_null() {
            S::Float::zero()
        } else {
            let offset = i * tile.addend_stride + v * lanes;
            S::Float::load(tile.addend.wrapping_add(offset), n)
        };
        let scale = *tile.a_scales.add(i);
        let result = S::finish(sums, scale, tile.b_scales.add(v * lanes), addend);
        let to = tile.c.wrapping_add(i * tile.c_stride + v * lanes);
        S::Float::store(to, result, n);
    }
}

/// Up to 16 rows by a panel, by AMX.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
unsafe fn tiles(m: usize, tile: &Tile) {
    #[repr(C, align(64))]
    struct Sums(MaybeUninit<[[i32; PANEL]; amx::ROWS]>);
    let mut sums = Sums(MaybeUninit::uninit());
    let first = sums.0.as_mut_ptr().cast::<i32>();
    // SAFETY: for the whole body: a whole tile of rows may be read (`Shape::rows_read`), `groups` is a multiple of a tile's rows
    // (`Kernel::shape`), each row of sums starts from the same numbers of a panel, and the sums that are read were written.
    unsafe {
        amx::Registers::multiply(
            amx::Numbers::Bytes,
            &amx::Tiles {
                a: tile.a,
                second: std::ptr::null(),
                a_stride: tile.a_stride,
                a_step: amx::ROW,
                b: tile.b.cast(),
                b_stride: 4 * PANEL,
                steps: tile.groups / amx::ROWS,
                starts: tile.starts.cast(),
                start_stride: 0,
                sums: first.cast(),
                sum_stride: 4 * PANEL,
                // Panels are read from end to end, which the processor sees: asking for more only took room from it.
                next: std::ptr::null(),
                next_stride: 0,
                next_count: 0,
            },
        );
        for i in 0..m {
            for v in 0..4 {
                let sums = Vnni::load(first.add(i * PANEL + v * amx::ROWS));
                finish::<Vnni>(tile, i, v, sums);
            }
        }
    }
}

/// A pointer to one panel's words, from a slice of its lines.
pub(super) fn words(lines: &[Line]) -> *const u32 {
    lines.as_ptr().cast()
}
