//! How the factors of a product lie once they are packed, and in what order they are.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::isa::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd};

/// Rows of A in a packed panel, and at most in a tile.
pub(super) const MR: usize = 8;
/// Words of k in a block: a panel of `KC × NR` words is 64 KiB with AVX-512.
pub(super) const KC: usize = 512;

/// Columns of B in a tile.
pub(super) fn tile_width(isa: Isa) -> usize {
    match isa.0 {
        Level::Scalar => 2 * Plain::LANES,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => 2 * Plain::LANES,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 2 * Avx2::LANES,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Amx => 2 * Avx512::<false>::LANES,
    }
}

/// Rows of A in a tile, at most: as many as leave its sums, two vectors of B and one of A in registers. They divide a panel.
pub(super) fn tile_rows(isa: Isa) -> usize {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Amx => MR,
        // 16 registers of 8 numbers (AVX2), or 32 of 4 (NEON).
        _ => MR / 2,
    }
}

/// What a 32-bit word of a packed block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A number.
    F32,
    /// A number rounded to bf16, where no instruction multiplies bf16.
    Rounded,
    /// The bf16 numbers of two neighbouring k, the first in the lower half; a missing last one is zero.
    Pairs,
    /// Pairs for AMX: k is filled up with zeros to a whole number of steps, and rows of A lie as its tiles read them.
    #[cfg(target_arch = "x86_64")]
    Tiles,
}

impl Format {
    pub(super) fn bf16(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        if isa.0 == Level::Amx {
            return Format::Tiles;
        }
        if isa.has_bf16() {
            Format::Pairs
        } else {
            Format::Rounded
        }
    }

    /// Words that hold `k` numbers.
    pub(super) fn words(self, k: usize) -> usize {
        match self {
            Format::F32 | Format::Rounded => k,
            Format::Pairs => k.div_ceil(2),
            #[cfg(target_arch = "x86_64")]
            Format::Tiles => k.div_ceil(2).next_multiple_of(amx::ROWS),
        }
    }

    /// Numbers of k in a block.
    pub(super) fn block(self) -> usize {
        if self == Format::F32 || self == Format::Rounded {
            KC
        } else {
            2 * KC
        }
    }

    /// Rows of A in a packed panel.
    pub(super) fn panel_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Format::Tiles => amx::ROWS,
            _ => MR,
        }
    }
}

/// Lanes that are packed together where they lie side by side: two cache lines of each k.
pub(super) const TOGETHER: usize = 32;
/// Steps of k, an even number, after which the next lanes have their turn. The lines of as many k further on are asked for
/// meanwhile: rows of a matrix lie too far apart for a processor to guess the next one.
pub(super) const AT_ONCE: usize = 16;

/// The order in which lanes that lie side by side are packed: blocks of a first lane and its steps of k.
pub(super) fn blocks(lanes: usize, depth: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    (0..depth).step_by(AT_ONCE).flat_map(move |k| {
        let steps = k..depth.min(k + AT_ONCE);
        (0..lanes)
            .step_by(TOGETHER)
            .map(move |lane| (lane, steps.clone()))
    })
}
