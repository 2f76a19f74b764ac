//! What the tests of several kernels need.

use crate::Matrix;

/// `n` numbers from −1 to 1, the same for a seed.
pub(crate) fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// `rows × columns`, or the same shape seen through the transposed.
pub(crate) fn view(data: &[f32], rows: usize, columns: usize, transposed: bool) -> Matrix<'_> {
    if transposed {
        Matrix::new(data, columns, rows, rows).transposed()
    } else {
        Matrix::new(data, rows, columns, columns)
    }
}
