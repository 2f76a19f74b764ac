//! Muon for the matrices of the linear layers: a step along the momentum with all its directions made equally long (Jordan
//! et al. 2024, "Muon: an optimizer for hidden layers in neural networks").

use hexapla_kernels::{Isa, Plus, blend, gemm, squared_norm};

use crate::tensor::{Arena, Tensor};

/// Steps of the Newton–Schulz iteration.
const STEPS: usize = 5;
/// Coefficients of its polynomial `a·x + b·x³ + c·x⁵`. It leads singular values to near 1 in few steps: those above 0.003
/// of the norm end between 0.68 and 1.21.
const POLYNOMIAL: [f32; 3] = [3.4445, -4.775, 2.0315];
/// Norm below which a momentum counts as nothing.
const EPS: f32 = 1e-7;
/// An update's root mean square, about that of Adam's (Liu et al. 2025, "Muon is scalable for LLM training", equation 4), so
/// that one learning rate serves both.
const ROOT_MEAN_SQUARE: f32 = 0.2;

/// A matrix's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// One step of Muon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the momentum.
    pub momentum: f32,
    /// Share of a weight taken away at each step, times the learning rate.
    pub weight_decay: f32,
    /// What the gradient is multiplied by first (clipping).
    pub gradient_scale: f32,
}

impl Muon {
    /// Updates a matrix's `weights` and its `momentum`; all three are of this `shape`, row after row.
    pub fn update(
        self,
        isa: Isa,
        arena: &Arena,
        shape: Shape,
        weights: &mut [f32],
        momentum: &mut [f32],
        gradient: &[f32],
    ) {
        let mut x = arena.tensor(shape.rows, shape.columns);
        for (x, g) in x.data_mut().iter_mut().zip(gradient) {
            *x = g * self.gradient_scale;
        }
        blend(isa, momentum, x.data(), self.momentum);
        // Nesterov's: where the momentum will be with this gradient once more.
        blend(isa, x.data_mut(), momentum, 1.0 - self.momentum);
        let x = orthogonal(isa, arena, x);
        let longer = shape.rows.max(shape.columns) as f32;
        let rate = self.learning_rate * ROOT_MEAN_SQUARE * longer.sqrt();
        let keep = 1.0 - self.learning_rate * self.weight_decay;
        for (w, x) in weights.iter_mut().zip(x.data()) {
            *w = *w * keep - rate * x;
        }
    }
}

/// `U·Vᵀ` of `x = U·S·Vᵀ`, roughly: the same directions with singular values near 1.
fn orthogonal(isa: Isa, arena: &Arena, mut x: Tensor) -> Tensor {
    let norm = (squared_norm(isa, x.data()).sqrt() as f32).max(EPS);
    x.data_mut().iter_mut().for_each(|x| *x /= norm);
    let tall = x.rows() > x.columns();
    let shorter = x.rows().min(x.columns());
    let mut next = arena.tensor(x.rows(), x.columns());
    let mut gram = arena.tensor(shorter, shorter);
    let mut factor = arena.tensor(shorter, shorter);
    for _ in 0..STEPS {
        let x_t = x.matrix().transposed();
        let (left, right) = if tall {
            (x_t, x.matrix())
        } else {
            (x.matrix(), x_t)
        };
        gemm(isa, gram.matrix_mut(), left, right, Plus::Nothing);
        let g = gram.matrix();
        gemm(isa, factor.matrix_mut(), g, g, Plus::Nothing);
        let [a, b, c] = POLYNOMIAL;
        for (f, g) in factor.data_mut().iter_mut().zip(gram.data()) {
            *f = b * g + c * *f;
        }
        for diagonal in factor.data_mut().iter_mut().step_by(shorter + 1) {
            *diagonal += a;
        }
        let (left, right) = if tall {
            (x.matrix(), factor.matrix())
        } else {
            (factor.matrix(), x.matrix())
        };
        gemm(isa, next.matrix_mut(), left, right, Plus::Nothing);
        std::mem::swap(&mut x, &mut next);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    const SHAPES: [(usize, usize); 7] = [
        (1, 1),
        (1, 9),
        (8, 1),
        (16, 16),
        (24, 16),
        (5, 33),
        (128, 256),
    ];

    fn random(n: usize, seed: u64) -> Vec<f32> {
        let mut random = SplitMix(seed);
        (0..n).map(|_| random.normal()).collect()
    }

    /// `a · b` of matrices with these rows and columns.
    fn product(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            }
        }
        c
    }

    fn transposed(a: &[f64], m: usize, n: usize) -> Vec<f64> {
        (0..m * n).map(|i| a[i % m * n + i / m]).collect()
    }

    /// The iteration as its definition has it, from the left whatever the shape.
    fn scalar_orthogonal(x: &[f32], m: usize, n: usize) -> Vec<f64> {
        let mut x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        for _ in 0..STEPS {
            let gram = product(&x, &transposed(&x, m, n), m, n, m);
            let x3 = product(&gram, &x, m, m, n);
            let x5 = product(&gram, &x3, m, m, n);
            let [a, b, c] = POLYNOMIAL.map(f64::from);
            for i in 0..m * n {
                x[i] = a * x[i] + b * x3[i] + c * x5[i];
            }
        }
        x
    }

    #[test]
    fn the_iteration_follows_its_definition_on_every_instruction_set() {
        for isa in Isa::available() {
            for (m, n) in SHAPES {
                let data = random(m * n, 5);
                let arena = Arena::default();
                let mut x = arena.tensor(m, n);
                x.data_mut().copy_from_slice(&data);
                let found = orthogonal(isa, &arena, x);
                let expected = scalar_orthogonal(&data, m, n);
                for (found, expected) in found.data().iter().zip(&expected) {
                    let difference = (f64::from(*found) - expected).abs();
                    assert!(difference < 1e-4, "{} {m}×{n}: {difference}", isa.name());
                }
                // The sum of the squares of all numbers is that of the singular values.
                let square = expected.iter().map(|x| x * x).sum::<f64>() / m.min(n) as f64;
                assert!((0.4..1.4).contains(&square), "{m}×{n}: {square}");
            }
        }
    }

    #[test]
    fn a_gradient_of_zeros_changes_nothing_but_decay() {
        let (mut weights, mut momentum) = (vec![1.0; 12], vec![0.0; 12]);
        let muon = Muon {
            learning_rate: 0.5,
            momentum: 0.95,
            weight_decay: 0.5,
            gradient_scale: 1.0,
        };
        let shape = Shape {
            rows: 3,
            columns: 4,
        };
        let arena = Arena::default();
        muon.update(
            Isa::best(),
            &arena,
            shape,
            &mut weights,
            &mut momentum,
            &[0.0; 12],
        );
        assert_eq!((weights, momentum), (vec![0.75; 12], vec![0.0; 12]));
    }
}
