//! Products against their definition, on every instruction set.

use super::*;
use crate::activation::{Activation, value};
use crate::testing::{for_odd_shapes, for_shapes, numbers, view};

/// The definition.
fn reference(c: &mut [f32], a: Matrix, b: Matrix, accumulate: bool, bias: Option<&[f32]>) {
    for i in 0..a.rows {
        for j in 0..b.columns {
            let mut sum = if accumulate {
                c[i * b.columns + j]
            } else {
                0.0
            };
            for k in 0..a.columns {
                let x = a.data[i * a.row_stride + k * a.column_stride];
                let y = b.data[k * b.row_stride + j * b.column_stride];
                sum = x.mul_add(y, sum);
            }
            c[i * b.columns + j] = sum + bias.map_or(0.0, |bias| bias[j]);
        }
    }
}

fn check(m: usize, n: usize, k: usize, transposed: (bool, bool)) {
    let (da, db) = (numbers(m * k, 1), numbers(k * n, 2));
    let (a, b) = (view(&da, m, k, transposed.0), view(&db, k, n, transposed.1));
    let bias = numbers(n, 4);
    for isa in Isa::available() {
        for plus in [Plus::Nothing, Plus::C] {
            let mut expected = numbers(m * n, 3);
            let mut found = expected.clone();
            reference(&mut expected, a, b, plus == Plus::C, None);
            gemm(isa, MatrixMut::new(&mut found, m, n, n), a, b, plus);
            assert!(
                expected == found,
                "{} {m}×{n}×{k} {transposed:?}",
                isa.name()
            );
        }
        let mut expected = vec![0.0; m * n];
        let mut found = numbers(m * n, 5);
        reference(&mut expected, a, b, false, Some(&bias));
        let packed = PackedMatrix::new(isa, b);
        for activation in [None, Some(Activation::Relu), Some(Activation::Gelu)] {
            let epilogue = Epilogue {
                plus: Plus::Bias(&bias),
                activation,
            };
            gemm_packed(MatrixMut::new(&mut found, m, n, n), a, &packed, epilogue);
            let through = |x: &f32| activation.map_or(*x, |kind| value(kind, *x));
            let expected: Vec<f32> = expected.iter().map(through).collect();
            assert!(expected == found, "packed {} {m}×{n}×{k}", isa.name());
        }
    }
}

#[test]
fn every_instruction_set_gives_the_reference_bit_for_bit() {
    for_shapes(check);
}

#[test]
fn odd_shapes_too() {
    for_odd_shapes(check);
}

#[test]
fn a_product_can_be_cut_and_columns_come_back() {
    let (m, k, n) = (5, 37, 150);
    let (da, db, bias) = (numbers(m * k, 7), numbers(k * n, 8), numbers(n, 9));
    let a = Matrix::new(&da, m, k, k);
    let b = Matrix::new(&db, k, n, n);
    for isa in Isa::available() {
        for packed in [PackedMatrix::new(isa, b), PackedMatrix::bf16(isa, b)] {
            let mut whole = vec![0.0; m * n];
            let c = MatrixMut::new(&mut whole, m, n, n);
            gemm_packed(c, a, &packed, Plus::Bias(&bias).into());
            for columns in [0..64, 64..150, 96..97] {
                let mut part = vec![0.0; m * columns.len()];
                let c = MatrixMut::new(&mut part, m, columns.len(), columns.len());
                let plus = Plus::Bias(&bias[columns.clone()]);
                gemm_packed_columns(c, a, &packed, columns.clone(), plus.into());
                for (row, part) in whole.chunks(n).zip(part.chunks(columns.len())) {
                    assert_eq!(row[columns.clone()], *part);
                }
            }
            let mut pieces = packed.clone();
            pieces.panels.fill(f32::NAN);
            for columns in [0..64, 64..128, 128..150] {
                let part = Matrix::new(&db[columns.start..], k, columns.len(), n);
                pieces.set_columns(columns.start, part);
            }
            assert!(pieces.panels == packed.panels);
            let mut column = vec![0.0; k];
            packed.column(131, &mut column);
            for (i, v) in column.iter().enumerate() {
                // A number rounded to bf16 is off by at most 2⁻⁹ of itself.
                assert!((v - db[i * n + 131]).abs() <= db[i * n + 131].abs() / 256.0);
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_companions() {
    let (k, n) = (300, 100);
    let (da, db) = (numbers(50 * k, 7), numbers(k * n, 8));
    let packed = PackedMatrix::new(Isa::best(), Matrix::new(&db, k, n, n));
    let mut together = vec![0.0; 50 * n];
    gemm_packed(
        MatrixMut::new(&mut together, 50, n, n),
        Matrix::new(&da, 50, k, k),
        &packed,
        Plus::Nothing.into(),
    );
    for i in 0..50 {
        let mut alone = vec![0.0; n];
        let row = Matrix::new(&da[i * k..], 1, k, k);
        gemm_packed(
            MatrixMut::new(&mut alone, 1, n, n),
            row,
            &packed,
            Plus::Nothing.into(),
        );
        assert_eq!(alone, together[i * n..(i + 1) * n]);
    }
}
