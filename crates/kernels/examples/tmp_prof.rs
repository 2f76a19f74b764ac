use hexapla_kernels::{Buffer, Isa, Matrix, MatrixMut, Plus, gemm_bf16};
use std::time::Instant;
fn main() {
    let v: Vec<usize> = std::env::args()
        .skip(1)
        .map(|a| a.parse().unwrap())
        .collect();
    let (m, n, k, layout) = (v[0], v[1], v[2], v[3]);
    let isa = Isa::best();
    // rotate over several to be out of cache
    let sets = v.get(4).copied().unwrap_or(1);
    let a: Vec<Vec<f32>> = (0..sets).map(|_| vec![0.5f32; m * k]).collect();
    let b: Vec<Vec<f32>> = (0..sets).map(|_| vec![0.25f32; n * k]).collect();
    let mut c: Vec<Buffer> = (0..sets).map(|_| Buffer::zeros(m * n)).collect();
    let start = Instant::now();
    let mut i = 0;
    let mut best = f64::MAX;
    while start.elapsed().as_secs_f64() < 2.0 {
        let (a, b, c) = (&a[i % sets], &b[i % sets], &mut c[i % sets]);
        let a = if layout == 2 {
            Matrix::new(a, k, m, m).transposed()
        } else {
            Matrix::new(a, m, k, k)
        };
        let b = if layout == 1 {
            Matrix::new(b, n, k, k).transposed()
        } else {
            Matrix::new(b, k, n, n)
        };
        let t = Instant::now();
        gemm_bf16(isa, MatrixMut::new(c, m, n, n), a, b, Plus::Nothing);
        best = best.min(t.elapsed().as_secs_f64());
        i += 1;
    }
    println!(
        "{m} {n} {k} {layout}: mean {:.0} best {:.0}",
        2.0 * (m * n * k) as f64 * i as f64 / start.elapsed().as_secs_f64() / 1e9,
        2.0 * (m * n * k) as f64 / best / 1e9
    );
}
