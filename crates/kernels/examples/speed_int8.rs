//! Times the product of bytes on the shapes of inference, beside what this core can do at most:
//! `cargo run --release -p hexapla-kernels --example speed_int8`.
//!
//! Weights are rotated, so that together they exceed every cache, as in decoding, where each step reads all of them. On a
//! busy machine the longest products are interrupted more often than not, and only the short ones' times mean anything.
use hexapla_kernels::{
    Buffer, Isa, Matrix, MatrixMut, PackedInt8, Plus, QuantizedRows, gemm_int8_quantized,
};
use std::time::Instant;

/// Bytes of weights that are rotated, at least.
const ROTATED: usize = 96 << 20;

fn main() {
    let isa = Isa::best();
    let peak = peak();
    let bandwidth = read_bandwidth();
    println!(
        "{}: vpdpbusd peak {peak:.1} Gop/s, reading memory {bandwidth:.1} GB/s (both one thread)",
        isa.name()
    );
    for (k, n) in [(512, 512), (512, 2048), (2048, 512), (512, 32000)] {
        let weights: Vec<PackedInt8> = (0..ROTATED.div_ceil(k * n))
            .map(|i| {
                let value = |j: usize| ((j * (i + 7) * 31) % 251) as u8 as i8;
                let values: Vec<i8> = (0..k * n).map(value).collect();
                PackedInt8::from_quantized(isa, &values, &vec![0.01; n])
            })
            .collect();
        for m in [1, 4, 8, 32, 128] {
            let data: Vec<f32> = (0..m * k).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let a = Matrix::new(&data, m, k, k);
            let mut rows = QuantizedRows::new();
            let mut c = Buffer::zeros(m * n);
            let quantizing = typical_best(200, || rows.quantize_for(&weights[0], &a));
            // All weights in turn, and one weight again and again.
            let best = [weights.len(), 1].map(|rotated| {
                let mut turn = 0;
                let repeat = (2e10 / (m * k * n) as f64) as usize;
                typical_best(repeat.min(3 * weights.len()).max(30), || {
                    let c = MatrixMut::new(&mut c, m, n, n);
                    gemm_int8_quantized(c, &rows, &weights[turn % rotated], Plus::Nothing.into());
                    turn += 1;
                })
            });
            let rate = |time: f64| 2.0 * (m * k * n) as f64 / time / 1e9;
            println!(
                "{m:6} {n:6} {k:6}  Gop/s: weights from memory {:.1}  weights at hand {:.1}  \
                 (reading {:.1} and {:.1} GB/s; quantizing {:.2} of {:.2} µs)",
                rate(best[0]),
                rate(best[1]),
                (k * n) as f64 / best[0] / 1e9,
                (k * n) as f64 / best[1] / 1e9,
                quantizing * 1e6,
                best[1] * 1e6,
            );
        }
    }
    pack_times(isa);
}

/// How long a large table takes to be packed, in both layouts.
fn pack_times(isa: Isa) {
    let (k, n) = (512, 32000);
    let data = vec![0.5f32; k * n];
    for (name, b) in [
        ("[k, n]", Matrix::new(&data, k, n, n)),
        (
            "[n, k] transposed",
            Matrix::new(&data, n, k, k).transposed(),
        ),
    ] {
        let start = Instant::now();
        let packed = PackedInt8::new(isa, b);
        let time = start.elapsed().as_secs_f64() * 1e3;
        println!(
            "packing {k} × {n} from {name}: {time:.1} ms, {} bytes",
            packed.bytes()
        );
    }
    let values = vec![1i8; k * n];
    let start = Instant::now();
    let packed = PackedInt8::from_quantized(isa, &values, &vec![1.0; n]);
    let time = start.elapsed().as_secs_f64() * 1e3;
    println!(
        "packing {k} × {n} from bytes: {time:.1} ms, {} bytes",
        packed.bytes()
    );
}

/// Seconds that the fastest tenth of `repeat` runs of `work` stays below: a busy machine interrupts many short runs, not
/// all.
fn typical_best(repeat: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..repeat)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[repeat / 10]
}

/// GB/s of reading 256 MB in order.
fn read_bandwidth() -> f64 {
    let data = vec![1u64; 32 << 20];
    let mut pieces = data.chunks_exact(1 << 17).cycle();
    let time = typical_best(1024, || {
        let mut lanes = [0u64; 64];
        for chunk in pieces.next().unwrap_or_default().chunks_exact(64) {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane = lane.wrapping_add(*v);
            }
        }
        std::hint::black_box(lanes);
    });
    f64::from(1 << 20) / time / 1e9
}

/// Gop/s of `vpdpbusd` alone on registers; NaN where the CPU has no VNNI.
fn peak() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        const STEPS: usize = 10_000;
        // SAFETY: the CPU has both instruction sets.
        let time = typical_best(2000, || unsafe {
            std::hint::black_box(registers_only(STEPS));
        });
        return STEPS as f64 * 16.0 * 128.0 / time / 1e9;
    }
    f64::NAN
}

/// `steps` times 16 independent `vpdpbusd`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn registers_only(steps: usize) -> i32 {
    use std::arch::x86_64::*;
    use std::hint::black_box;
    let (a, b) = (
        _mm512_set1_epi8(black_box(1)),
        _mm512_set1_epi8(black_box(2)),
    );
    // Started from different numbers, or the compiler would see one sum in the sixteen.
    let mut sums: [__m512i; 16] = std::array::from_fn(|i| _mm512_set1_epi32(black_box(i as i32)));
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    sums.into_iter()
        .map(|sum| _mm512_reduce_add_epi32(sum))
        .fold(0, i32::wrapping_add)
}
