//! Rounding to bf16.

use crate::isa::multiversion;

/// `x` rounded to the nearest bf16, ties to even. A NaN stays a NaN.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    let bits = x.to_bits();
    // Carries into the kept half where the cut one is above the middle, or in the middle and the kept half odd.
    let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    let kept = if x.is_nan() { quiet } else { nearest };
    f32::from_bits(kept & 0xFFFF_0000)
}

multiversion! {
    /// Rounds each number to bf16.
    pub(crate) fn round_in_place(numbers: &mut [f32]) {
        for x in numbers {
            *x = round(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_ties_to_even() {
        let bits = |b: u32| round(f32::from_bits(b)).to_bits();
        for (from, to) in [
            (0x3F80_0000, 0x3F80_0000),
            (0x3F80_8000, 0x3F80_0000),
            (0x3F80_8001, 0x3F81_0000),
            (0x3F81_8000, 0x3F82_0000),
            (0xBF81_7FFF, 0xBF81_0000),
            (0x7F7F_FFFF, 0x7F80_0000),
            (0xFF80_0000, 0xFF80_0000),
            (0x0000_8001, 0x0001_0000),
        ] {
            assert_eq!(bits(from), to, "{from:x}");
        }
        assert!(round(f32::from_bits(0x7F80_0001)).is_nan());
    }
}
