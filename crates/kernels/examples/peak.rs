//! The most that this machine can do: sums of products in registers, and memory streamed.
//!
//! `cargo run --release -p hexapla-kernels --example peak -- [THREADS]` prints for one thread and for THREADS a line each:
//! `{"kind": "f32" | "bf16" | "int8" | "memory", "threads": …, "giga": …}`, in 10⁹ operations (a multiplication and an
//! addition are two) or bytes each second. Kinds that the processor has no instruction for are left out (f32 falls back
//! on AVX2).

use std::time::Instant;

fn main() {
    let threads = std::env::args()
        .nth(1)
        .and_then(|a| a.parse().ok())
        .unwrap_or(2);
    for threads in [1, threads] {
        #[cfg(target_arch = "x86_64")]
        for (kind, rate) in x86::rates(threads) {
            say(kind, threads, rate);
        }
        say("memory", threads, triad(threads));
        if threads == 1 && std::env::args().nth(1).as_deref() == Some("1") {
            break;
        }
    }
}

fn say(kind: &str, threads: usize, rate: f64) {
    println!(
        "{{\"kind\": \"{kind}\", \"threads\": {threads}, \"giga\": {:.1}}}",
        rate / 1e9
    );
}

/// The best of several runs, in units each second, of `work` on every thread, which does `units` on each.
fn best(threads: usize, units: f64, work: impl Fn() + Sync) -> f64 {
    let run = |_| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(&work);
            }
        });
        units * threads as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(run).fold(0.0, f64::max)
}

/// z = x + y/2 over arrays far larger than any cache: 12 bytes a number.
fn triad(threads: usize) -> f64 {
    const NUMBERS: usize = 32 << 20;
    let (x, y) = (vec![1f32; NUMBERS], vec![2f32; NUMBERS]);
    let mut z = vec![0f32; NUMBERS];
    let run = |z: &mut Vec<f32>| {
        let start = Instant::now();
        let part = NUMBERS.div_ceil(threads);
        std::thread::scope(|scope| {
            let inputs = x.chunks(part).zip(y.chunks(part));
            for (z, (x, y)) in z.chunks_mut(part).zip(inputs) {
                scope.spawn(move || {
                    for (z, (x, y)) in z.iter_mut().zip(x.iter().zip(y)) {
                        *z = x + 0.5 * y;
                    }
                });
            }
        });
        12.0 * NUMBERS as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run(&mut z)).fold(0.0, f64::max)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use hexapla_kernels::Isa;

    use super::best;

    /// Rounds of each loop: some hundredths of a second.
    const ROUNDS: usize = 10_000_000;
    /// Sums under way at a time: more than latency × instructions a cycle, fewer than the registers.
    const CHAINS: usize = 16;

    /// Rates of the kinds of arithmetic that this processor has.
    pub(super) fn rates(threads: usize) -> Vec<(&'static str, f64)> {
        let mut rates = Vec::new();
        let mut add = |kind, operations: usize, work: &(dyn Fn() + Sync)| {
            rates.push((kind, best(threads, (operations * ROUNDS) as f64, work)));
        };
        let avx512 = is_x86_feature_detected!("avx512f");
        if avx512 {
            // SAFETY: the processor has AVX-512F.
            add("f32", CHAINS * 2 * 16, &|| unsafe { products_512() });
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            add("f32", CHAINS * 2 * 8, &|| unsafe { products_256() });
        }
        // One AMX product is that of 16 · 16 · 32 pairs, or of twice as many bytes.
        let amx = Isa::available().iter().any(|isa| isa.name() == "amx");
        if amx {
            // SAFETY: the processor has AMX, and the system allows it.
            add("bf16", 2 * 8192, &|| unsafe { tiles(false) });
            // SAFETY: as above.
            add("int8", 2 * 16384, &|| unsafe { tiles(true) });
        }
        if !amx && avx512 && is_x86_feature_detected!("avx512bf16") {
            // SAFETY: the processor has AVX-512 BF16.
            add("bf16", CHAINS * 2 * 32, &|| unsafe { pairs_of_bf16() });
        }
        if !amx && avx512 && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: the processor has AVX-512 VNNI.
            add("int8", CHAINS * 2 * 64, &|| unsafe { fours_of_bytes() });
        }
        rates
    }

    /// ROUNDS products of tiles of zeros, of bytes or of bf16, by turns into four of the eight registers.
    ///
    /// # Safety
    /// The processor has AMX, and the system allows it.
    unsafe fn tiles(bytes: bool) {
        #[repr(C, align(64))]
        struct Settings([u8; 64]);
        let mut settings = Settings([0; 64]);
        settings.0[0] = 1;
        for i in 0..8 {
            (settings.0[16 + 2 * i], settings.0[48 + i]) = (64, 16);
        }
        macro_rules! products {
            ($product:literal) => {
                // SAFETY: the settings are 64 bytes; all else is in registers.
                unsafe {
                    asm!(
                        "ldtilecfg [{settings}]",
                        "2:",
                        concat!($product, " tmm0, tmm4, tmm5"),
                        concat!($product, " tmm1, tmm4, tmm5"),
                        concat!($product, " tmm2, tmm4, tmm5"),
                        concat!($product, " tmm3, tmm4, tmm5"),
                        "dec {rounds}",
                        "jnz 2b",
                        "tilerelease",
                        settings = in(reg) &settings, rounds = inout(reg) ROUNDS / 4 => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack, readonly),
                    )
                }
            };
        }
        if bytes {
            products!("tdpbusd")
        } else {
            products!("tdpbf16ps")
        }
    }

    /// Keeps the compiler from seeing what is in a register, so that it cannot simplify a loop away.
    macro_rules! opaque {
        ($class:ident, $value:expr) => {
            // SAFETY: an empty text that reads and writes nothing but the register it names.
            unsafe { asm!("/* {0} */", inout($class) $value, options(nomem, nostack, preserves_flags)) }
        };
    }

    #[target_feature(enable = "avx512f")]
    fn products_512() {
        let (a, b) = (
            _mm512_set1_ps(black_box(0.5)),
            _mm512_set1_ps(black_box(0.25)),
        );
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, *sum, b);
                opaque!(zmm_reg, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    fn products_256() {
        let (a, b) = (
            _mm256_set1_ps(black_box(0.5)),
            _mm256_set1_ps(black_box(0.25)),
        );
        // 13 of 16 registers: CHAINS would not fit beside a and b. The rest of the rounds' work is done in more rounds.
        const FIT: usize = 13;
        let mut sums = [_mm256_setzero_ps(); FIT];
        for _ in 0..ROUNDS * CHAINS / FIT {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(a, *sum, b);
                opaque!(ymm_reg, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pairs_of_bf16() {
        let a = _mm512_set1_ps(black_box(0.01));
        let a = _mm512_cvtne2ps_pbh(a, a);
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, a);
                opaque!(zmm_reg, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn fours_of_bytes() {
        let (a, b) = (
            _mm512_set1_epi8(black_box(1)),
            _mm512_set1_epi8(black_box(2)),
        );
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
                opaque!(zmm_reg, *sum);
            }
        }
        black_box(sums);
    }
}
