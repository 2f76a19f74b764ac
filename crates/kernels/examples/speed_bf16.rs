//! Times the bf16 matrix product on the shapes of training, as a share of what the instruction alone reaches:
//! `cargo run --release -p hexapla-kernels --example speed_bf16`.
use hexapla_kernels::{Buffer, Isa, Matrix, MatrixMut, Plus, gemm, gemm_bf16};
use std::time::Instant;

/// Seconds that one of `repeat` calls takes: the best of many rounds, each shorter than a busy machine's time slice.
fn time(repeat: usize, mut work: impl FnMut()) -> f64 {
    let round = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..repeat {
            work();
        }
        start.elapsed().as_secs_f64() / repeat as f64
    };
    (0..40).map(|_| round(&mut work)).fold(f64::MAX, f64::min)
}

/// GFLOP/s of the bf16 product instruction between registers, on one core; 0 where there is none.
fn peak() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
        use std::arch::x86_64::*;
        use std::hint::black_box;
        const STEPS: usize = 400_000;
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn products() -> f32 {
            let x = _mm512_set1_ps(black_box(0.01));
            let x = _mm512_cvtne2ps_pbh(x, x);
            let mut sums = [_mm512_setzero_ps(); 16];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = _mm512_dpbf16_ps(*sum, x, x);
                }
            }
            sums.into_iter().map(|s| _mm512_reduce_add_ps(s)).sum()
        }
        let seconds = time(1, || {
            // SAFETY: the features were asked for above.
            black_box(unsafe { products() });
        });
        return (STEPS * 16 * 64) as f64 / seconds / 1e9;
    }
    0.0
}

fn main() {
    let isa = Isa::best();
    let peak = peak();
    println!("{}: peak of the instruction {peak:.1} GFLOP/s", isa.name());
    for (m, n, k) in [
        (1024, 128, 128),
        (1024, 256, 128),
        (1024, 128, 256),
        (128, 256, 1024),
        (1024, 1024, 256),
        (1024, 256, 1024),
        (256, 1024, 1024),
        (768, 512, 512),
        (768, 2048, 512),
        (768, 512, 2048),
        (512, 2048, 768),
        (512, 128, 1024),
        (128, 10000, 128),
        (128, 128, 10000),
        (10000, 128, 1024),
    ] {
        let a = vec![0.5f32; m * k];
        let b = vec![0.25f32; k * n];
        let mut c = Buffer::zeros(m * n);
        let work = 2.0 * (m * n * k) as f64;
        let repeat = (1e8 / work).ceil() as usize;
        let mut line = format!("{m:6} {n:6} {k:6}  GFLOP/s:");
        for (layout, name) in ["A·B", "A·Bᵀ", "Aᵀ·B"].into_iter().enumerate() {
            let a = match layout {
                2 => Matrix::new(&a, k, m, m).transposed(),
                _ => Matrix::new(&a, m, k, k),
            };
            let b = match layout {
                1 => Matrix::new(&b, n, k, k).transposed(),
                _ => Matrix::new(&b, k, n, n),
            };
            let mut rate = |product: fn(Isa, MatrixMut, Matrix, Matrix, Plus)| {
                let seconds = time(repeat, || {
                    product(isa, MatrixMut::new(&mut c, m, n, n), a, b, Plus::Nothing);
                });
                work / seconds / 1e9
            };
            let (bf16, f32) = (rate(gemm_bf16), rate(gemm));
            line += &format!("  {name} {bf16:.1}  {name} in f32 {f32:.1}");
        }
        println!("{line}");
    }
}
