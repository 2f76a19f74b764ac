//! Sixteen lanes of f32 on each instruction set: what attention needs of them.

/// Sixteen numbers. All functions give the same bits on every instruction set.
pub(crate) trait Sixteen: Copy {
    /// Zeros.
    ///
    /// # Safety
    /// The CPU has the instruction set. (So for every function here.)
    unsafe fn zero() -> Self;
    /// All lanes equal `x`.
    unsafe fn splat(x: f32) -> Self;
    /// The numbers at `p`.
    unsafe fn load(p: *const f32) -> Self;
    /// The first `n < 16` numbers at `p`, zeros behind them; reads no others.
    unsafe fn load_part(p: *const f32, n: usize) -> Self;
    /// To `p`.
    unsafe fn store(self, p: *mut f32);
    /// The first `n < 16` lanes to `p`; writes no others.
    unsafe fn store_part(self, p: *mut f32, n: usize);
    /// `self + b`.
    unsafe fn plus(self, b: Self) -> Self;
    /// `self · b + c`, rounded once.
    unsafe fn times_plus(self, b: Self, c: Self) -> Self;
    /// The bf16 numbers in the lower halves of the words.
    unsafe fn low(self) -> Self;
    /// The bf16 numbers in the upper halves.
    unsafe fn high(self) -> Self;
    /// The sum of each, to `p[0..8]`. Lane l is added to lane l + 8, then l to l + 4, l + 2, l + 1.
    unsafe fn sums(v: [Self; 8], p: *mut f32);
}

impl Sixteen for [f32; 16] {
    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; 16]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller lets 16 numbers be read.
        unsafe { p.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        let mut v = [0.0; 16];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            // SAFETY: the caller lets the first `n` numbers be read.
            *x = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller lets 16 numbers be written.
        unsafe { p.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        for (i, x) in self.iter().enumerate().take(n) {
            // SAFETY: the caller lets the first `n` numbers be written.
            unsafe { *p.add(i) = *x };
        }
    }
    #[inline(always)]
    unsafe fn plus(mut self, b: Self) -> Self {
        for l in 0..16 {
            self[l] += b[l];
        }
        self
    }
    #[inline(always)]
    unsafe fn times_plus(mut self, b: Self, c: Self) -> Self {
        for l in 0..16 {
            self[l] = self[l].mul_add(b[l], c[l]);
        }
        self
    }
    #[inline(always)]
    unsafe fn low(self) -> Self {
        self.map(|word| f32::from_bits(word.to_bits() << 16))
    }
    #[inline(always)]
    unsafe fn high(self) -> Self {
        self.map(|word| f32::from_bits(word.to_bits() & 0xFFFF_0000))
    }
    #[inline(always)]
    unsafe fn sums(v: [Self; 8], p: *mut f32) {
        for (i, mut v) in v.into_iter().enumerate() {
            for width in [8, 4, 2, 1] {
                for l in 0..width {
                    v[l] += v[l + width];
                }
            }
            // SAFETY: the caller lets 8 numbers be written.
            unsafe { *p.add(i) = v[0] };
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Two256;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Sixteen;
    use crate::simd::{Avx2, Simd, mask16};
    use std::arch::x86_64::*;

    /// Two vectors of 256 bits.
    #[derive(Clone, Copy)]
    pub(crate) struct Two256(__m256, __m256);

    /// The sums of eight numbers each: see [`Sixteen::sums`], from l + 4 on.
    #[inline(always)]
    unsafe fn sums_of_eights(v: [__m256; 8], p: *mut f32) {
        // SAFETY: the caller has AVX2 and lets 8 numbers be written.
        unsafe {
            let [v0, v1, v2, v3, v4, v5, v6, v7] = v;
            // Each sum of a pair: four numbers of the first, four of the second.
            let t0 = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(v0, v4),
                _mm256_permute2f128_ps::<0x31>(v0, v4),
            );
            let t1 = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(v1, v5),
                _mm256_permute2f128_ps::<0x31>(v1, v5),
            );
            let t2 = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(v2, v6),
                _mm256_permute2f128_ps::<0x31>(v2, v6),
            );
            let t3 = _mm256_add_ps(
                _mm256_permute2f128_ps::<0x20>(v3, v7),
                _mm256_permute2f128_ps::<0x31>(v3, v7),
            );
            // Two numbers of each of four.
            let u0 = _mm256_add_ps(
                _mm256_shuffle_ps::<0x44>(t0, t1),
                _mm256_shuffle_ps::<0xEE>(t0, t1),
            );
            let u1 = _mm256_add_ps(
                _mm256_shuffle_ps::<0x44>(t2, t3),
                _mm256_shuffle_ps::<0xEE>(t2, t3),
            );
            // One of each of eight, in order.
            let sums = _mm256_add_ps(
                _mm256_shuffle_ps::<0x88>(u0, u1),
                _mm256_shuffle_ps::<0xDD>(u0, u1),
            );
            _mm256_storeu_ps(p, sums);
        }
    }

    // SAFETY (all functions): the instruction set is the caller's promise, and so is the memory at `p`.
    impl Sixteen for Two256 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see above.
            unsafe { Two256(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: see above.
            unsafe { Two256(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { Two256(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> Self {
            // SAFETY: see above; masked lanes are not read, so the second address may lie beyond the numbers.
            unsafe {
                let second = p.wrapping_add(8);
                Two256(Avx2::load(p, n), Avx2::load(second, n.saturating_sub(8)))
            }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: see above.
            unsafe {
                _mm256_storeu_ps(p, self.0);
                _mm256_storeu_ps(p.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn store_part(self, p: *mut f32, n: usize) {
            // SAFETY: see above; masked lanes are not written.
            unsafe {
                Avx2::store(p, self.0, n);
                Avx2::store(p.wrapping_add(8), self.1, n.saturating_sub(8));
            }
        }
        #[inline(always)]
        unsafe fn plus(self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { Two256(_mm256_add_ps(self.0, b.0), _mm256_add_ps(self.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn times_plus(self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                Two256(
                    _mm256_fmadd_ps(self.0, b.0, c.0),
                    _mm256_fmadd_ps(self.1, b.1, c.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn low(self) -> Self {
            // SAFETY: see above.
            unsafe {
                Two256(
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(self.0))),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(self.1))),
                )
            }
        }
        #[inline(always)]
        unsafe fn high(self) -> Self {
            // SAFETY: see above.
            unsafe {
                let upper = _mm256_castsi256_ps(_mm256_set1_epi32(0xFFFF_0000_u32 as i32));
                Two256(_mm256_and_ps(self.0, upper), _mm256_and_ps(self.1, upper))
            }
        }
        #[inline(always)]
        unsafe fn sums(v: [Self; 8], p: *mut f32) {
            // SAFETY: see above.
            unsafe {
                let [v0, v1, v2, v3, v4, v5, v6, v7] = v;
                let eights = [
                    _mm256_add_ps(v0.0, v0.1),
                    _mm256_add_ps(v1.0, v1.1),
                    _mm256_add_ps(v2.0, v2.1),
                    _mm256_add_ps(v3.0, v3.1),
                    _mm256_add_ps(v4.0, v4.1),
                    _mm256_add_ps(v5.0, v5.1),
                    _mm256_add_ps(v6.0, v6.1),
                    _mm256_add_ps(v7.0, v7.1),
                ];
                sums_of_eights(eights, p);
            }
        }
    }

    /// Lane l plus lane l + 8.
    #[inline(always)]
    unsafe fn halves(v: __m512) -> __m256 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)) }
    }

    // SAFETY (all functions): as above.
    impl Sixteen for __m512 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see above.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_maskz_loadu_ps(mask16(n), p) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn store_part(self, p: *mut f32, n: usize) {
            // SAFETY: see above.
            unsafe { _mm512_mask_storeu_ps(p, mask16(n), self) }
        }
        #[inline(always)]
        unsafe fn plus(self, b: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_add_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn times_plus(self, b: Self, c: Self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_fmadd_ps(self, b, c) }
        }
        #[inline(always)]
        unsafe fn low(self) -> Self {
            // SAFETY: see above.
            unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(self))) }
        }
        #[inline(always)]
        unsafe fn high(self) -> Self {
            // SAFETY: see above.
            unsafe {
                let upper = _mm512_castsi512_ps(_mm512_set1_epi32(0xFFFF_0000_u32 as i32));
                _mm512_and_ps(self, upper)
            }
        }
        #[inline(always)]
        unsafe fn sums(v: [Self; 8], p: *mut f32) {
            // SAFETY: see above.
            unsafe {
                let [v0, v1, v2, v3, v4, v5, v6, v7] = v;
                let eights = [
                    halves(v0),
                    halves(v1),
                    halves(v2),
                    halves(v3),
                    halves(v4),
                    halves(v5),
                    halves(v6),
                    halves(v7),
                ];
                sums_of_eights(eights, p);
            }
        }
    }
}
