//! What the tests of several kernels need.

use proptest::prelude::*;

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

/// Checks products of m×n×k, even and odd and with no k at all, with each factor as it is and transposed.
pub(crate) fn for_shapes(check: impl Fn(usize, usize, usize, (bool, bool))) {
    for (m, n, k) in [
        (1, 1, 1),
        (8, 32, 16),
        (9, 33, 17),
        (70, 130, 1100),
        (300, 40, 20),
        (272, 80, 37),
        (5, 800, 1027),
        (2, 3, 0),
    ] {
        for transposed in [(false, false), (false, true), (true, false), (true, true)] {
            check(m, n, k, transposed);
        }
    }
}

/// A product's check over random shapes, the two factors lying either way.
pub(crate) fn for_odd_shapes(check: impl Fn(usize, usize, usize, (bool, bool))) {
    proptest!(
        ProptestConfig::with_cases(40),
        |(m in 1usize..40, n in 1usize..100, k in 0usize..70, ta: bool, tb: bool)| {
            check(m, n, k, (ta, tb));
        }
    );
}
