//! Products against their definition: integers, and one rounding for each group.

use super::tile::Kernel;
use super::*;
use crate::Isa;
use crate::activation::{Activation, value};
use crate::shared::SharedBytes;
use crate::testing::numbers;
use proptest::prelude::*;

/// Runs `check` with `b` prepared for every piece of code that this CPU can run.
fn for_all(b: Matrix, mut check: impl FnMut(&PackedInt4)) {
    for isa in Isa::available() {
        let mut packed = PackedInt4::new(isa, b);
        for kernel in Kernel::all(isa) {
            packed.kernel = kernel;
            check(&packed);
        }
    }
}

/// The definition.
fn reference(c: &mut [f32], a: &Int4Rows, b: &PackedInt4, epilogue: Epilogue) {
    let n = b.columns();
    for r in 0..a.rows() {
        for j in 0..n {
            let mut x = 0.0f32;
            for g in 0..a.groups() {
                let of_group = g * GROUP..b.rows().min((g + 1) * GROUP);
                let sum: i32 = of_group.map(|k| a.number(r, k) * b.value(k, j).1).sum();
                let scale = a.scales()[r * a.groups() + g] * b.value(g * GROUP, j).0;
                x = (sum as f32).mul_add(scale, x);
            }
            let x = match epilogue.plus {
                Plus::Nothing => x,
                Plus::C => x + c[r * n + j],
                Plus::Bias(bias) => x + bias[j],
            };
            c[r * n + j] = match epilogue.activation {
                None => x,
                Some(activation) => value(activation, x),
            };
        }
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

fn check(m: usize, n: usize, k: usize) {
    let (da, db, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
    let a = Matrix::new(&da, m, k, k);
    for_all(Matrix::new(&db, k, n, n), |b| {
        let mut quantized = Int4Rows::new();
        quantized.quantize_for(b, &a);
        for plus in [Plus::Nothing, Plus::C, Plus::Bias(&bias)] {
            for activation in [None, Some(Activation::Gelu)] {
                let epilogue = Epilogue { plus, activation };
                let mut expected = numbers(m * n, 4);
                let mut found = expected.clone();
                reference(&mut expected, &quantized, b, epilogue);
                gemm_int4_all(a, [(MatrixMut::new(&mut found, m, n, n), b, epilogue)]);
                assert!(
                    bits(&expected) == bits(&found),
                    "{:?} {m}×{n}×{k} {epilogue:?}",
                    b.kernel
                );
            }
        }
    });
}

#[test]
fn every_instruction_set_gives_the_definition_bit_for_bit() {
    for m in 1..=12 {
        check(m, 70, 45);
    }
    for (m, n, k) in [
        (1, 1, 1),
        (7, 64, 512),
        (13, 63, 66),
        (25, 200, 259),
        (2, 3, 0),
        (0, 5, 8),
        (3, 0, 8),
    ] {
        check(m, n, k);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn odd_shapes_too(m in 1usize..14, n in 1usize..150, k in 0usize..100) {
        check(m, n, k);
    }
}

#[test]
fn a_weight_is_near_what_it_was_and_one_of_nibbles_is_itself() {
    let (k, n) = (100, 70);
    let db = numbers(k * n, 5);
    // What scales of Q4_0 would make: the largest of each group at −8 or at 7.
    let plain: f64 = (0..n)
        .flat_map(|j| (0..k).step_by(GROUP).map(move |first| (j, first)))
        .map(|(j, first)| {
            let group: Vec<f32> = (first..k.min(first + GROUP))
                .map(|k| db[k * n + j])
                .collect();
            let largest = group
                .iter()
                .fold(0.0f32, |a, b| if b.abs() > a.abs() { *b } else { a });
            let scale = largest / -8.0;
            let error = |x: &f32| f64::from(x - (x / scale).round().clamp(-8.0, 7.0) * scale);
            group.iter().map(|x| error(x).powi(2)).sum::<f64>()
        })
        .sum();
    for isa in Isa::available() {
        let packed = PackedInt4::new(isa, Matrix::new(&db, k, n, n));
        let mut turned = vec![0.0; k * n];
        for (j, column) in turned.chunks_exact_mut(k).enumerate() {
            packed.column(j, column);
        }
        let error = |(j, k): (usize, usize)| f64::from(turned[j * 100 + k] - db[k * n + j]);
        let all = (0..n).flat_map(|j| (0..k).map(move |k| (j, k)));
        let squares: f64 = all.map(|place| error(place).powi(2)).sum();
        assert!(squares < 0.9 * plain, "{squares} {plain}");
        // The same as columns, in two parts, and from what it was made to.
        let columns = Matrix::new(&turned, n, k, k).transposed();
        let mut again = PackedInt4::zeros(isa, k, n);
        let rows = columns.transposed();
        again.set_columns(0, rows.row_range(0..64).transposed());
        again.set_columns(64, rows.row_range(64..n).transposed());
        let mut column = vec![0.0; k];
        let mut largest = 0.0f32;
        for (j, expected) in turned.chunks_exact(k).enumerate() {
            again.column(j, &mut column);
            for (a, b) in column.iter().zip(expected) {
                largest = largest.max((a - b).abs());
            }
        }
        assert!(largest < 0.02, "{largest}");
    }
}

#[test]
fn stored_bytes_are_the_same_weight() {
    let (k, n) = (70, 130);
    let db = numbers(k * n, 6);
    let packed = PackedInt4::new(Isa::best(), Matrix::new(&db, k, n, n));
    let bytes: Vec<u8> = packed.stored_bytes().flatten().collect();
    let shape = PackedInt4::stored_shape(k, n);
    assert_eq!(bytes.len(), shape.iter().product());
    assert_eq!(bytes.len(), packed.bytes());
    let shared = || SharedBytes::from(&*bytes.clone().leak());
    let again = PackedInt4::from_stored(Isa::best(), k, n, shared()).unwrap();
    for (j, k) in [(0, 0), (129, 69), (64, 33)] {
        assert_eq!(packed.value(k, j), again.value(k, j));
    }
    assert!(PackedInt4::from_stored(Isa::best(), k + 32, n, shared()).is_none());
    assert!(PackedInt4::from_stored(Isa::best(), usize::MAX, usize::MAX, shared()).is_none());
}

#[test]
fn what_is_no_number_shows() {
    for bad in [f32::NAN, f32::INFINITY] {
        let (mut da, mut db) = (numbers(2 * 40, 1), numbers(40 * 3, 2));
        da[45] = bad;
        db[7] = bad;
        for_all(Matrix::new(&db, 40, 3, 3), |b| {
            let mut c = vec![0.0; 6];
            let a = Matrix::new(&da, 2, 40, 40);
            gemm_int4_all(
                a,
                [(MatrixMut::new(&mut c, 2, 3, 3), b, Plus::Nothing.into())],
            );
            let is_nan: Vec<bool> = c.iter().map(|c| c.is_nan()).collect();
            assert_eq!(is_nan, [false, true, false, true, true, true]);
        });
    }
    // Zeros, and what is too small for a scale, are zeros.
    let tiny = vec![1e-42; 64];
    let packed = PackedInt4::new(Isa::best(), Matrix::new(&tiny, 32, 2, 2));
    let mut column = vec![1.0; 32];
    packed.column(1, &mut column);
    assert_eq!(column, [0.0; 32]);
}

#[test]
#[should_panic(expected = "not whole panels")]
fn parts_of_panels_are_refused() {
    let data = numbers(32 * 130, 1);
    let b = PackedInt4::new(Isa::best(), Matrix::new(&data, 32, 130, 130));
    let mut rows = Int4Rows::new();
    rows.quantize_for(&b, &Matrix::new(&data, 1, 32, 32));
    let mut c = [0.0; 32];
    b.multiply_columns(
        32..64,
        MatrixMut::new(&mut c, 1, 32, 32),
        &rows,
        Plus::Nothing.into(),
    );
}
