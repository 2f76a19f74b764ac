//! The innermost product, all of its sums in registers.

use super::layout::{Format, MR};
use crate::isa::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd, prefetch};
use std::hint::black_box;

/// One tile: `m` rows, `n` columns up to the tile's width, `k` steps of one word each.
pub(super) struct Tile {
    pub(super) k: usize,
    pub(super) a: *const f32,
    pub(super) a_rows: usize,
    pub(super) a_columns: usize,
    pub(super) b: *const f32,
    pub(super) b_rows: usize,
    pub(super) c: *mut f32,
    pub(super) c_rows: usize,
    pub(super) n: usize,
    pub(super) load_c: bool,
    pub(super) bias: *const f32,
    /// What to ask for at the first step, and how far on at each: memory that is read soon, or nothing worth it.
    pub(super) next: *const u8,
    pub(super) next_step: usize,
}

/// # Safety
/// Every element that the tile names can be read (A, B, bias) or read and written (C); the CPU has AVX-512 BF16 if
/// `format` is pairs.
pub(super) unsafe fn run_tile(isa: Isa, format: Format, m: usize, tile: &Tile) {
    // Which no other processor asks about.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = format;
    // SAFETY: passed on to the caller; the `Isa` proves the instruction set.
    unsafe {
        match isa.0 {
            Level::Scalar => by_rows::<Plain>(m, tile),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => by_rows::<Plain>(m, tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(m, tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if format == Format::Pairs => avx512_bf16(m, tile),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Amx => avx512(m, tile),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Avx2>(m, tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
unsafe fn avx512(m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Avx512<false>>(m, tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
unsafe fn avx512_bf16(m: usize, tile: &Tile) {
    // SAFETY: passed on.
    unsafe { by_rows::<Avx512<true>>(m, tile) }
}

/// Picks the code for the tile's number of rows and of vectors.
#[inline(always)]
unsafe fn by_rows<S: Simd>(m: usize, tile: &Tile) {
    macro_rules! pick {
        ($($rows:literal)*) => {
            match m {
                // SAFETY: passed on from `run_tile`.
                $($rows => unsafe {
                    if tile.n == 2 * S::LANES {
                        multiply::<S, $rows, 2, true>(tile)
                    } else if tile.n > S::LANES {
                        multiply::<S, $rows, 2, false>(tile)
                    } else {
                        multiply::<S, $rows, 1, false>(tile)
                    }
                },)*
                _ => unreachable!("a tile has 1 to {MR} rows"),
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8)
}

/// The innermost product: M rows by V vectors, all accumulators in registers.
#[inline(always)]
unsafe fn multiply<S: Simd, const M: usize, const V: usize, const FULL: bool>(tile: &Tile) {
    let lanes = |v: usize| tile.n.saturating_sub(v * S::LANES).min(S::LANES);
    // SAFETY: for the whole body: rows below M, columns below n and steps below k are inside the slices (see `run_tile`);
    // with FULL, n is V vectors, otherwise loads and stores are masked to the columns below n.
    unsafe {
        let mut sums = [[S::zero(); V]; M];
        if tile.load_c {
            for (i, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    let c = tile.c.add(i * tile.c_rows + v * S::LANES);
                    *sum = if FULL {
                        S::load_full(c)
                    } else {
                        S::load(c, lanes(v))
                    };
                }
            }
        }
        // C's lines of this tile, and of the next one, whose sums may start from there.
        for i in 0..2 * M {
            for v in 0..V {
                prefetch(tile.c.wrapping_add(i * tile.c_rows + v * S::LANES));
            }
        }
        // Each row has a pointer of its own: steps from row to row would wait for one another.
        let a: [*const f32; M] =
            std::array::from_fn(|i| black_box(tile.a.wrapping_add(i * tile.a_rows)));
        let (mut k, mut b, mut next) = (0, tile.b, tile.next);
        for _ in 0..tile.k {
            S::prefetch(next);
            next = next.wrapping_add(tile.next_step);
            let mut columns = [S::zero(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                let p = b.add(v * S::LANES);
                *column = if FULL {
                    S::load_full(p)
                } else {
                    S::load(p, lanes(v))
                };
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let x = S::splat(*a[i].wrapping_add(k));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = S::fma(x, column, *sum);
                }
            }
            k += tile.a_columns;
            b = b.wrapping_add(tile.b_rows);
        }
        if !tile.bias.is_null() {
            for v in 0..V {
                let bias = S::load(tile.bias.add(v * S::LANES), lanes(v));
                for row in &mut sums {
                    row[v] = S::add(row[v], bias);
                }
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                let c = tile.c.add(i * tile.c_rows + v * S::LANES);
                if FULL {
                    S::store_full(c, *sum);
                } else {
                    S::store(c, *sum, lanes(v));
                }
            }
        }
    }
}
