//! The few vector operations that the matrix product needs, for each instruction set.

/// A vector of f32.
pub(crate) trait Simd: Copy {
    /// The vector's type.
    type Vector: Copy;
    /// Numbers in a vector.
    const LANES: usize;

    /// Zeros.
    ///
    /// # Safety
    /// The CPU has the instruction set. (So for every function here.)
    unsafe fn zero() -> Self::Vector;
    /// All lanes equal `x`.
    unsafe fn splat(x: f32) -> Self::Vector;
    /// The first `n` lanes from `p`, zeros behind them; reads exactly `min(n, LANES)` numbers.
    unsafe fn load(p: *const f32, n: usize) -> Self::Vector;
    /// All lanes from `p`.
    unsafe fn load_full(p: *const f32) -> Self::Vector;
    /// The first `n` lanes to `p`.
    unsafe fn store(p: *mut f32, v: Self::Vector, n: usize);
    /// All lanes to `p`.
    unsafe fn store_full(p: *mut f32, v: Self::Vector);
    /// `a * b + c`, rounded once; for pairs, the sum of both products and of `c`.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a + b`.
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Asks for the cache line at `p`, which need not be inside a slice, to come into the second cache.
    unsafe fn prefetch(p: *const u8);
}

/// Asks for the cache line at `p`, which need not be inside a slice, to come into the first cache.
#[inline(always)]
pub(crate) fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction (SSE), which only advises and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Plain Rust; also NEON, which every 64-bit ARM has and the compiler uses by itself.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Simd for Plain {
    type Vector = [f32; 8];
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> [f32; 8] {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32, n: usize) -> [f32; 8] {
        let mut v = [0.0; 8];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            // SAFETY: the caller lets the first `n` numbers be read.
            *x = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn load_full(p: *const f32) -> [f32; 8] {
        // SAFETY: the caller lets 8 numbers be read.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 8], n: usize) {
        for (i, x) in v.iter().enumerate().take(n) {
            // SAFETY: the caller lets the first `n` numbers be written.
            unsafe { *p.add(i) = *x };
        }
    }
    #[inline(always)]
    unsafe fn store_full(p: *mut f32, v: [f32; 8]) {
        // SAFETY: the caller lets 8 numbers be written.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        let mut v = [0.0; 8];
        for i in 0..8 {
            v[i] = a[i].mul_add(b[i], c[i]);
        }
        v
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        let mut v = [0.0; 8];
        for i in 0..8 {
            v[i] = a[i] + b[i];
        }
        v
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, mask16, transpose};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// 256-bit vectors.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// A mask of the first `n` of 8 lanes.
    #[inline(always)]
    unsafe fn mask8(n: usize) -> __m256i {
        const ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: n.min(8) is at most 8, so eight numbers from 8 - n on lie inside the table of 16.
        unsafe { _mm256_loadu_si256(ONES.as_ptr().add(8 - n.min(8)).cast()) }
    }

    // SAFETY (all functions): the instruction set is the caller's promise; masked lanes touch no memory, and the others
    // are numbers that the caller lets be read or written.
    impl Simd for Avx2 {
        type Vector = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32, n: usize) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_maskload_ps(p, mask8(n)) }
        }
        #[inline(always)]
        unsafe fn load_full(p: *const f32) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256, n: usize) {
            // SAFETY: see above.
            unsafe { _mm256_maskstore_ps(p, mask8(n), v) }
        }
        #[inline(always)]
        unsafe fn store_full(p: *mut f32, v: __m256) {
            // SAFETY: see above.
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            // SAFETY: the instruction only advises; it never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_add_ps(a, b) }
        }
    }

    /// Row i of the result holds word i of each row of `r`.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn transpose(r: [__m256; 8]) -> [__m256; 8] {
        // Written out: closures would not be inlined with the instruction set.
        let [r0, r1, r2, r3, r4, r5, r6, r7] = r;
        let (t0, t1) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
        let (t2, t3) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
        let (t4, t5) = (_mm256_unpacklo_ps(r4, r5), _mm256_unpackhi_ps(r4, r5));
        let (t6, t7) = (_mm256_unpacklo_ps(r6, r7), _mm256_unpackhi_ps(r6, r7));
        let s0 = _mm256_shuffle_ps::<0x44>(t0, t2);
        let s1 = _mm256_shuffle_ps::<0xEE>(t0, t2);
        let s2 = _mm256_shuffle_ps::<0x44>(t1, t3);
        let s3 = _mm256_shuffle_ps::<0xEE>(t1, t3);
        let s4 = _mm256_shuffle_ps::<0x44>(t4, t6);
        let s5 = _mm256_shuffle_ps::<0xEE>(t4, t6);
        let s6 = _mm256_shuffle_ps::<0x44>(t5, t7);
        let s7 = _mm256_shuffle_ps::<0xEE>(t5, t7);
        [
            _mm256_permute2f128_ps::<0x20>(s0, s4),
            _mm256_permute2f128_ps::<0x20>(s1, s5),
            _mm256_permute2f128_ps::<0x20>(s2, s6),
            _mm256_permute2f128_ps::<0x20>(s3, s7),
            _mm256_permute2f128_ps::<0x31>(s0, s4),
            _mm256_permute2f128_ps::<0x31>(s1, s5),
            _mm256_permute2f128_ps::<0x31>(s2, s6),
            _mm256_permute2f128_ps::<0x31>(s3, s7),
        ]
    }

    /// 512-bit vectors; with PAIRS, what is multiplied are pairs of bf16, the sums f32.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512<const PAIRS: bool>;

    #[inline(always)]
    pub(crate) fn mask16(n: usize) -> __mmask16 {
        if n >= 16 { u16::MAX } else { (1u16 << n) - 1 }
    }

    // SAFETY (all functions): as for `Avx2`; with PAIRS, the set is AVX-512 BF16 too.
    impl<const PAIRS: bool> Simd for Avx512<PAIRS> {
        type Vector = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: see above.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            // SAFETY: see above.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32, n: usize) -> __m512 {
            // SAFETY: see above.
            unsafe { _mm512_maskz_loadu_ps(mask16(n), p) }
        }
        #[inline(always)]
        unsafe fn load_full(p: *const f32) -> __m512 {
            // SAFETY: see above.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512, n: usize) {
            // SAFETY: see above.
            unsafe { _mm512_mask_storeu_ps(p, mask16(n), v) }
        }
        #[inline(always)]
        unsafe fn store_full(p: *mut f32, v: __m512) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: see above.
            unsafe {
                if PAIRS {
                    // Both types are 512 bits that mean what the instruction says.
                    let (a, b) = (
                        transmute::<__m512, __m512bh>(a),
                        transmute::<__m512, __m512bh>(b),
                    );
                    _mm512_dpbf16_ps(c, a, b)
                } else {
                    _mm512_fmadd_ps(a, b, c)
                }
            }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            // SAFETY: the instruction only advises; it never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: see above.
            unsafe { _mm512_add_ps(a, b) }
        }
    }
}
