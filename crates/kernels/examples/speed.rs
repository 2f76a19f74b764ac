//! Times the matrix product on the shapes of training: `cargo run --release -p hexapla-kernels --example speed`.
use hexapla_kernels::{Isa, Matrix, MatrixMut, Plus, gemm};
use std::time::Instant;

fn main() {
    let isa = Isa::best();
    for (m, n, k) in [
        (1024, 128, 128),
        (1024, 256, 128),
        (1024, 128, 256),
        (128, 10000, 128),
        (128, 128, 10000),
        (10000, 128, 128),
        (2048, 512, 512),
        (2048, 2048, 512),
        (2048, 512, 2048),
        (16, 16, 32),
        (16, 32, 16),
        (4, 512, 512),
    ] {
        let a = vec![0.5f32; m * k];
        let b = vec![0.25f32; k * n];
        let mut c = hexapla_kernels::Buffer::zeros(m * n);
        let mut rates = Vec::new();
        for layout in 0..3 {
            let mut best = f64::MAX;
            let repeat = (2e9 / (2.0 * (m * n * k) as f64)).ceil() as usize;
            for _ in 0..3 {
                let start = Instant::now();
                for _ in 0..repeat {
                    let va = if layout == 2 {
                        Matrix::new(&a, k, m, m).transposed()
                    } else {
                        Matrix::new(&a, m, k, k)
                    };
                    let vb = if layout == 1 {
                        Matrix::new(&b, n, k, k).transposed()
                    } else {
                        Matrix::new(&b, k, n, n)
                    };
                    gemm(isa, MatrixMut::new(&mut c, m, n, n), va, vb, Plus::Nothing);
                }
                best = best.min(start.elapsed().as_secs_f64() / repeat as f64);
            }
            rates.push(format!("{:6.1}", 2.0 * (m * n * k) as f64 / best / 1e9));
        }
        println!(
            "{m:6} {n:6} {k:6}  GFLOP/s: A·B {}  A·Bᵀ {}  Aᵀ·B {}",
            rates[0], rates[1], rates[2]
        );
    }
}
