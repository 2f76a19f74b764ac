//! Products against their definition: integers and one rounding.

use super::tile::Kernel;
use super::*;
use crate::Isa;
use crate::activation::{Activation, value};
use crate::testing::numbers;
use proptest::prelude::*;

/// Runs `check` with `b` prepared for every piece of code that this CPU can run.
fn for_all(b: Matrix, mut check: impl FnMut(&PackedInt8)) {
    for isa in Isa::available() {
        let largest = PackedInt8::new(isa, b);
        let equalized = PackedInt8::equalized(isa, b);
        for mut packed in [largest, equalized] {
            for kernel in Kernel::all(isa) {
                packed.kernel = kernel;
                check(&packed);
            }
        }
    }
}

/// The definition, in 64-bit integers.
fn reference(c: &mut [f32], a: &QuantizedRows, b: &PackedInt8, epilogue: Epilogue) {
    let n = b.columns();
    for r in 0..a.rows() {
        for j in 0..n {
            let sum: i64 = (0..b.rows())
                .map(|k| i64::from(a.number(r, k)) * i64::from(b.value(k, j)))
                .sum();
            let sum = i32::try_from(sum).unwrap() as f32;
            let addend = match epilogue.plus {
                Plus::Nothing => 0.0,
                Plus::C => c[r * n + j],
                Plus::Bias(bias) => bias[j],
            };
            let x = sum.mul_add(a.scales()[r] * b.scales()[j], addend);
            let x = match a.outliers().get(r) {
                Some(o) if o.value != 0.0 => {
                    x + f32::from(b.value(o.k, j)) * (o.value * b.scales()[j])
                }
                _ => x,
            };
            c[r * n + j] = match epilogue.activation {
                None => x,
                Some(Activation::Relu) if x < 0.0 => 0.0,
                Some(Activation::Relu) => x,
                Some(activation) => value(activation, x),
            };
        }
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

fn check(m: usize, n: usize, k: usize) {
    let (mut da, db, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
    // Some rows have a number that stands out.
    for (r, row) in da.chunks_exact_mut(k.max(1)).enumerate().step_by(3) {
        row[r * 7 % k] *= 40.0;
    }
    let a = Matrix::new(&da, m, k, k);
    for_all(Matrix::new(&db, k, n, n), |b| {
        let mut quantized = QuantizedRows::new();
        quantized.quantize_for(b, &a);
        for plus in [Plus::Nothing, Plus::C, Plus::Bias(&bias)] {
            for activation in [
                None,
                Some(Activation::Relu),
                Some(Activation::Gelu),
                Some(Activation::Swish),
            ] {
                let epilogue = Epilogue { plus, activation };
                let mut expected = numbers(m * n, 4);
                let mut found = expected.clone();
                reference(&mut expected, &quantized, b, epilogue);
                gemm_int8(MatrixMut::new(&mut found, m, n, n), a, b, epilogue);
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
    for m in 1..=40 {
        check(m, 70, 13);
    }
    for (m, n, k) in [
        (1, 1, 1),
        (7, 64, 512),
        (12, 128, 64),
        (13, 63, 66),
        (25, 200, 259),
        (2, 3, 0),
        (0, 5, 8),
        (3, 0, 8),
        (100, 33, 5),
    ] {
        check(m, n, k);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn odd_shapes_too(m in 1usize..41, n in 1usize..150, k in 0usize..90) {
        check(m, n, k);
    }
}

#[test]
fn rows_of_c_may_be_apart_and_what_lies_between_is_left() {
    let (m, n, k, stride) = (14, 70, 9, 75);
    let (da, db) = (numbers(m * k, 1), numbers(k * n, 2));
    for_all(Matrix::new(&db, k, n, n), |b| {
        let a = Matrix::new(&da, m, k, k);
        let mut straight = vec![0.0; m * n];
        gemm_int8(
            MatrixMut::new(&mut straight, m, n, n),
            a,
            b,
            Plus::Nothing.into(),
        );
        let mut apart = vec![7.0; m * stride];
        let c = MatrixMut::new(&mut apart, m, n, stride);
        gemm_int8(c, a, b, Plus::Nothing.into());
        for (row, expected) in apart.chunks(stride).zip(straight.chunks(n)) {
            assert_eq!(&row[..n], expected);
            assert_eq!(row[n..], [7.0; 5]);
        }
    });
}

#[test]
fn a_row_does_not_depend_on_its_companions() {
    let (m, n, k) = (50, 100, 300);
    let (da, db) = (numbers(m * k, 7), numbers(k * n, 8));
    for_all(Matrix::new(&db, k, n, n), |b| {
        let mut together = vec![0.0; m * n];
        let a = Matrix::new(&da, m, k, k);
        gemm_int8(
            MatrixMut::new(&mut together, m, n, n),
            a,
            b,
            Plus::Nothing.into(),
        );
        for (row, expected) in da.chunks(k).zip(together.chunks(n)) {
            let mut alone = vec![0.0; n];
            let row = Matrix::new(row, 1, k, k);
            gemm_int8(
                MatrixMut::new(&mut alone, 1, n, n),
                row,
                b,
                Plus::Nothing.into(),
            );
            assert_eq!(bits(&alone), bits(expected));
        }
    });
}

#[test]
fn columns_in_parts_are_the_columns_of_the_whole() {
    let (m, n, k) = (9, 300, 40);
    let (da, db, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
    let epilogue = Epilogue {
        plus: Plus::Bias(&bias),
        activation: Some(Activation::Relu),
    };
    for_all(Matrix::new(&db, k, n, n), |b| {
        let mut a = QuantizedRows::new();
        a.quantize_for(b, &Matrix::new(&da, m, k, k));
        let mut whole = vec![0.0; m * n];
        gemm_int8_quantized(MatrixMut::new(&mut whole, m, n, n), &a, b, epilogue);
        for columns in [0..64, 64..64, 64..256, 256..300, 0..300, 128..300] {
            let width = columns.len();
            let mut part = vec![0.0; m * width];
            let c = MatrixMut::new(&mut part, m, width, width);
            let epilogue = Epilogue {
                plus: Plus::Bias(&bias[columns.clone()]),
                ..epilogue
            };
            b.multiply_columns(columns.clone(), c, &a, epilogue);
            for r in 0..m {
                let expected = &whole[r * n..(r + 1) * n][columns.clone()];
                assert_eq!(&part[r * width..(r + 1) * width], expected);
            }
        }
    });
}

#[test]
#[should_panic(expected = "not whole panels")]
fn a_part_must_be_whole_panels() {
    let b = PackedInt8::new(Isa::SCALAR, Matrix::new(&[0.0; 100], 1, 100, 100));
    let mut a = QuantizedRows::new();
    a.quantize_for(&b, &Matrix::new(&[0.0], 1, 1, 1));
    let mut c = [0.0; 50];
    b.multiply_columns(
        0..50,
        MatrixMut::new(&mut c, 1, 50, 50),
        &a,
        Plus::Nothing.into(),
    );
}

/// With a = sa·(qa + ea), b = sb·(qb + eb), |e| ≤ ½ (and a little for the roundings of f32), a term's error is at most
/// sa·sb·(½·127 + ½·127 + ¼), and sa·sb = max|a|·max|b| / 127².
#[test]
fn the_error_is_within_its_bound() {
    let (m, n, k) = (6, 90, 500);
    let (da, db) = (numbers(m * k, 5), numbers(k * n, 6));
    let largest = |x: &mut dyn Iterator<Item = f32>| x.fold(0.0, |m: f32, v| m.max(v.abs()));
    for_all(Matrix::new(&db, k, n, n), |b| {
        let mut found = vec![0.0; m * n];
        let a = Matrix::new(&da, m, k, k);
        gemm_int8(
            MatrixMut::new(&mut found, m, n, n),
            a,
            b,
            Plus::Nothing.into(),
        );
        for r in 0..m {
            let row = &da[r * k..(r + 1) * k];
            for j in 0..n {
                let column = || db[j..].iter().step_by(n).copied();
                let exact: f64 = row
                    .iter()
                    .zip(column())
                    .map(|(x, y)| f64::from(*x) * f64::from(y))
                    .sum();
                let scales =
                    largest(&mut row.iter().copied()) * largest(&mut column()) / 127.0 / 127.0;
                let bound = k as f64 * f64::from(scales) * 127.25 * 1.0001;
                let error = (f64::from(found[r * n + j]) - exact).abs();
                assert!(error <= bound, "{error} > {bound}");
                // The bound is for the worst case; errors of both signs are far from it.
                assert!(error <= 0.1 * bound, "{error} is too near {bound}");
            }
        }
    });
}

/// Rows of B that differ a hundredfold in magnitude, and rows of A that differ the other way, one number of which stands out.
#[test]
fn equalized_rows_and_outliers_lose_less() {
    let (m, n, k) = (8, 70, 256);
    let (mut da, mut db) = (numbers(m * k, 5), numbers(k * n, 6));
    for (i, row) in db.chunks_exact_mut(n).enumerate() {
        let by = 10f32.powf((i % 5) as f32 / 2.0 - 1.0);
        row.iter_mut().for_each(|x| *x *= by);
        da.iter_mut().skip(i).step_by(k).for_each(|x| *x /= by);
    }
    da.iter_mut().skip(3).step_by(k).for_each(|x| *x *= 400.0);
    let (a, b) = (Matrix::new(&da, m, k, k), Matrix::new(&db, k, n, n));
    let error = |packed: &PackedInt8| -> f64 {
        let mut c = vec![0.0; m * n];
        gemm_int8(
            MatrixMut::new(&mut c, m, n, n),
            a,
            packed,
            Plus::Nothing.into(),
        );
        let exact = |r: usize, j: usize| -> f64 {
            let terms = (0..k).map(|i| f64::from(da[r * k + i]) * f64::from(db[i * n + j]));
            terms.sum()
        };
        let errors = c
            .iter()
            .enumerate()
            .map(|(i, x)| (f64::from(*x) - exact(i / n, i % n)).powi(2));
        errors.sum::<f64>().sqrt()
    };
    for isa in Isa::available() {
        let plain = PackedInt8::new(isa, b);
        let equalized = PackedInt8::equalized(isa, b);
        let (plain, less) = (error(&plain), error(&equalized));
        assert!(less < plain / 3.0, "{less} {plain}");
        let apart = error(&PackedInt8::new(isa, b).scaled_by(Int8Scales::WithoutOutlier));
        assert!(less < apart && apart < plain, "{less} {apart} {plain}");
        // Its columns are B's.
        let mut column = vec![0.0; k];
        equalized.column(66, &mut column);
        for (x, y) in column.iter().zip(db[66..].iter().step_by(n)) {
            // Half a step of its column, which is that of the largest row.
            assert!((x - y).abs() < 0.05, "{x} {y}");
        }
    }
}

#[test]
fn zeros_give_the_addend_alone() {
    let (m, n, k) = (3, 70, 10);
    let bias = numbers(n, 3);
    let epilogue = Plus::Bias(&bias).into();
    let (ones, zeros) = (vec![1.0; k * n], vec![0.0; k * n]);
    for (da, db) in [(&zeros, &ones), (&ones, &zeros), (&zeros, &zeros)] {
        for_all(Matrix::new(db, k, n, n), |b| {
            let mut found = vec![9.0; m * n];
            let a = Matrix::new(da, m, k, k);
            gemm_int8(MatrixMut::new(&mut found, m, n, n), a, b, epilogue);
            assert!(found.chunks(n).all(|row| row == bias));
        });
    }
}

#[test]
fn what_is_not_finite_becomes_nan_in_its_row_or_column_alone() {
    let (m, n, k) = (14, 70, 33);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut da, mut db) = (numbers(m * k, 1), numbers(k * n, 2));
        da[5 * k + 32] = bad;
        db[7 * n + 66] = bad;
        for activation in [
            None,
            Some(Activation::Relu),
            Some(Activation::Gelu),
            Some(Activation::Swish),
        ] {
            for_all(Matrix::new(&db, k, n, n), |b| {
                let mut found = vec![0.0; m * n];
                let (a, plus) = (Matrix::new(&da, m, k, k), Plus::Nothing);
                let epilogue = Epilogue { plus, activation };
                gemm_int8(MatrixMut::new(&mut found, m, n, n), a, b, epilogue);
                for (i, v) in found.iter().enumerate() {
                    assert_eq!(v.is_nan(), i / n == 5 || i % n == 66, "{i}: {v}");
                }
            });
        }
    }
}

#[test]
fn the_largest_sums_neither_saturate_nor_overflow() {
    for (k, value) in [
        (4096, 127i8),
        (4096, -127),
        (4095, -128),
        (1 << 17, -128),
        (1 << 17, 127),
    ] {
        for sign in [1.0f32, -1.0] {
            let row = vec![sign; k];
            for isa in Isa::available() {
                let mut b = PackedInt8::from_quantized(isa, &vec![value; 3 * k], &[1.0; 3]);
                for kernel in Kernel::all(isa) {
                    b.kernel = kernel;
                    let mut c = [0.0; 3];
                    let c_view = MatrixMut::new(&mut c, 1, 3, 3);
                    gemm_int8(c_view, Matrix::new(&row, 1, k, k), &b, Plus::Nothing.into());
                    let sum = k as i32 * 127 * i32::from(value) * sign as i32;
                    assert_eq!(c, [sum as f32 * (1.0 / 127.0); 3], "{kernel:?} {k} {value}");
                }
            }
        }
    }
}
