//! Operations on rows are the same on every instruction set, and what their definitions say.

use crate::Isa;
use crate::activation::{Activation, activate, activate_backward};
use crate::dropout::Dropout;
use crate::embed::{dropout_in_place, embed_row, residual};
use crate::loss::{CrossEntropy, cross_entropy_pair, cross_entropy_row};
use crate::norm::{
    LayerNormBackward, RmsNormBackward, layer_norm, layer_norm_backward, rms_norm,
    rms_norm_backward,
};
use crate::softmax::{Visible, softmax_backward_in_place, softmax_in_place};
use crate::sums::{add_assign, bias_gradient, block_max, exp_of, exp_sum, max, subtract_both};
use crate::testing::numbers;

/// Runs `f` on every instruction set and checks that all give the scalar set's numbers, bit for bit.
fn same_everywhere(f: impl Fn(Isa) -> Vec<f32>) -> Vec<f32> {
    let expected = f(Isa::SCALAR);
    for isa in Isa::available() {
        let found = f(isa);
        assert!(
            expected
                .iter()
                .zip(&found)
                .all(|(a, b)| a.to_bits() == b.to_bits()),
            "{} differs from scalar",
            isa.name()
        );
    }
    expected
}

#[test]
fn every_row_operation_is_the_same_on_every_instruction_set() {
    for n in [1, 7, 16, 33, 128, 200] {
        let (x, y, s) = (numbers(3 * n, 1), numbers(3 * n, 2), numbers(n, 3));
        let drop = Dropout::new(0.3, 99);
        same_everywhere(|isa| vec![max(isa, &x)]);
        let e = same_everywhere(|isa| {
            let (mut blocks, mut powers, mut rest) = (Vec::new(), vec![0.0; 3 * n], x.clone());
            block_max(isa, &mut blocks, &x, 20);
            exp_of(isa, &mut powers, &x, 1.5, 0.7);
            subtract_both(isa, &mut rest, 0.3, -2.0);
            blocks.push(exp_sum(isa, &x, 1.5));
            [powers, rest, blocks].concat()
        });
        for (i, x) in x.iter().enumerate() {
            assert!((e[i] - ((x - 1.5) / 0.7).exp()).abs() < 1e-6 * e[i].max(1.0));
            assert!((e[3 * n + i] - (x + 1.7)).abs() < 1e-6);
        }
        for (block, found) in x.chunks(20).zip(&e[6 * n..]) {
            assert_eq!(block.iter().copied().fold(f32::MIN, f32::max), *found);
        }
        let sum: f32 = x.iter().map(|x| (x - 1.5).exp()).sum();
        assert!((e[e.len() - 1] / sum - 1.0).abs() < 1e-5);
        for causal in [false, true] {
            let p = same_everywhere(|isa| {
                let mut p = x.clone();
                let visible = if causal {
                    Visible::CAUSAL
                } else {
                    Visible::ALL
                };
                softmax_in_place(isa, &mut p, n, 0.5, visible);
                p
            });
            for row in p.chunks(n) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
            same_everywhere(|isa| {
                let mut d = y.clone();
                softmax_backward_in_place(isa, &mut d, &p, n, 0.5);
                d
            });
        }
        for kind in [
            Activation::Relu,
            Activation::ReluSquared,
            Activation::Gelu,
            Activation::Swish,
            Activation::GeluTanh,
            Activation::GeluSigmoid,
            Activation::Tanh,
        ] {
            same_everywhere(|isa| {
                let mut out = vec![0.0; 3 * n];
                activate(isa, &mut out, &x, kind, drop);
                activate_backward(isa, &mut out, &y, kind, drop);
                out
            });
        }
        same_everywhere(|isa| {
            let mut out = vec![0.0; 3 * n];
            residual(isa, &mut out, &x, &y, drop);
            embed_row(isa, &mut out[..n], &x, &y, 3.0, drop, 7);
            dropout_in_place(isa, &mut out, drop, 5);
            out
        });
        same_everywhere(|isa| {
            let mut logits = x.clone();
            let options = CrossEntropy {
                label: n / 2,
                label_smoothing: 0.1,
                scale: 0.25,
            };
            let loss = cross_entropy_row(isa, &mut logits, options);
            logits.extend([loss.smoothed, loss.negative_log_likelihood]);
            logits
        });
        same_everywhere(|isa| {
            let (mut a, mut b, mut room) = (x.clone(), y.clone(), vec![0.0; 3 * n]);
            let options = CrossEntropy {
                label: n / 2,
                label_smoothing: 0.1,
                scale: 0.25,
            };
            let losses = cross_entropy_pair(isa, &mut a, &mut b, &mut room, options, 5.0);
            a.extend(b);
            a.extend(losses.map(|l| l.smoothed));
            a
        });
        same_everywhere(|isa| {
            let (mut out, mut statistics) = (vec![0.0; 3 * n], vec![0.0; 6]);
            layer_norm(isa, &mut out, &mut statistics, &x, &s, &s, 1e-5);
            let (mut dx, mut dscale, mut dshift) = (vec![1.0; 3 * n], vec![0.0; n], vec![0.0; n]);
            let b = LayerNormBackward {
                dx: &mut dx,
                accumulate: true,
                dscale: &mut dscale,
                dshift: &mut dshift,
                dy: &y,
                x: &x,
                statistics: &statistics,
                scale: &s,
            };
            layer_norm_backward(isa, b);
            [out, statistics, dx, dscale, dshift].concat()
        });
    }
}

/// Softmax, and the mean of −ln p by the smoothed target, in f64.
fn softmax_and_loss(logits: &[f32], options: CrossEntropy) -> (Vec<f64>, f64) {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let e: Vec<f64> = logits.iter().map(|v| f64::from(v - max).exp()).collect();
    let p: Vec<f64> = e.iter().map(|v| v / e.iter().sum::<f64>()).collect();
    let even = f64::from(options.label_smoothing) / p.len() as f64;
    let mut loss: f64 = p.iter().map(|p| -even * p.ln()).sum();
    loss -= (1.0 - f64::from(options.label_smoothing)) * p[options.label].ln();
    (p, loss)
}

#[test]
fn a_pair_of_rows_has_the_loss_of_its_definition() {
    let (x, y) = (numbers(50, 3), numbers(50, 4));
    let options = CrossEntropy {
        label: 7,
        label_smoothing: 0.1,
        scale: 1.0,
    };
    let ((p, first), (q, second)) = (softmax_and_loss(&x, options), softmax_and_loss(&y, options));
    let to = |p: &[f64], q: &[f64]| -> f64 { p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum() };
    let divergence = to(&p, &q) + to(&q, &p);
    for alpha in [0.0f32, 5.0] {
        let (mut a, mut b, mut room) = (x.clone(), y.clone(), vec![0.0; 50]);
        let losses = cross_entropy_pair(Isa::best(), &mut a, &mut b, &mut room, options, alpha);
        let share = f64::from(alpha) / 4.0 * divergence;
        for (found, expected) in losses.iter().zip([first, second]) {
            assert!((f64::from(found.smoothed) - expected - share).abs() < 1e-5);
        }
        // Without the term it is the loss of two single rows, and so are the gradients.
        if alpha == 0.0 {
            let (mut single, mut other) = (x.clone(), y.clone());
            let rows =
                [&mut single, &mut other].map(|row| cross_entropy_row(Isa::best(), row, options));
            assert_eq!(rows, losses);
            let pairs = single.iter().chain(&other).zip(a.iter().chain(&b));
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
}

#[test]
fn layer_norm_has_mean_zero_and_variance_one() {
    let x = numbers(64, 5);
    let (mut out, mut statistics) = (vec![0.0; 64], vec![0.0; 2]);
    layer_norm(
        Isa::best(),
        &mut out,
        &mut statistics,
        &x,
        &[1.0; 64],
        &[0.0; 64],
        1e-5,
    );
    let mean = out.iter().sum::<f32>() / 64.0;
    let variance = out.iter().map(|v| v * v).sum::<f32>() / 64.0;
    assert!(
        mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-4,
        "{mean} {variance}"
    );
}

#[test]
fn the_gradient_of_the_loss_is_its_slope() {
    let x = numbers(40, 6);
    let options = CrossEntropy {
        label: 3,
        label_smoothing: 0.1,
        scale: 1.0,
    };
    let loss = |x: &[f32]| cross_entropy_row(Isa::SCALAR, &mut x.to_vec(), options).smoothed;
    let mut gradient = x.clone();
    cross_entropy_row(Isa::SCALAR, &mut gradient, options);
    for i in 0..x.len() {
        let (mut up, mut down) = (x.clone(), x.clone());
        up[i] += 1e-2;
        down[i] -= 1e-2;
        let slope = (loss(&up) - loss(&down)) / 2e-2;
        assert!(
            (slope - gradient[i]).abs() < 2e-4,
            "{i}: {slope} {}",
            gradient[i]
        );
    }
}

#[test]
fn sums_residuals_and_embeddings_are_their_definitions() {
    let (rows, width) = (7, 19);
    let (x, y) = (numbers(rows * width, 1), numbers(rows * width, 2));
    let dropout = Dropout::new(0.3, 5);
    for isa in Isa::available() {
        let mut sum = x.clone();
        add_assign(isa, &mut sum, &y);
        assert!(
            sum.iter()
                .zip(x.iter().zip(&y))
                .all(|(s, (x, y))| *s == x + y)
        );
        let mut bias = vec![1.0; width];
        bias_gradient(isa, &mut bias, &x);
        for (c, bias) in bias.iter().enumerate() {
            let wanted = (0..rows).fold(1.0, |sum, r| sum + x[r * width + c]);
            assert_eq!(*bias, wanted);
        }
        let mut out = vec![0.0; x.len()];
        residual(isa, &mut out, &x, &y, dropout);
        for (i, out) in out.iter().enumerate() {
            assert_eq!(*out, x[i] + y[i] * dropout.factor(i as u32));
        }
        embed_row(isa, &mut out, &x, &y, 2.5, dropout, 40);
        for (i, out) in out.iter().enumerate() {
            assert_eq!(
                *out,
                x[i].mul_add(2.5, y[i]) * dropout.factor(40 + i as u32)
            );
        }
        let mut dropped = x.clone();
        dropout_in_place(isa, &mut dropped, dropout, 9);
        for (i, dropped) in dropped.iter().enumerate() {
            assert_eq!(*dropped, x[i] * dropout.factor(9 + i as u32));
        }
    }
}

/// The gradients of Σ w·y of layer norm's output y are slopes, in f64.
#[test]
fn the_gradients_of_layer_norm_are_slopes() {
    let (width, eps) = (9, 1e-5);
    let (x, weights) = (numbers(width, 3), numbers(width, 4));
    let (scale, shift) = (numbers(width, 5), numbers(width, 6));
    let value = |x: &[f64], scale: &[f64], shift: &[f64]| -> f64 {
        let mean = x.iter().sum::<f64>() / width as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
        let y = |i: usize| (x[i] - mean) / (variance + f64::from(eps)).sqrt() * scale[i] + shift[i];
        (0..width).map(|i| y(i) * f64::from(weights[i])).sum()
    };
    let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|v| f64::from(*v)).collect() };
    let inputs = [wide(&x), wide(&scale), wide(&shift)];
    let slope = |which: usize, i: usize| {
        let at = |by: f64| {
            let mut moved = inputs.clone();
            moved[which][i] += by;
            value(&moved[0], &moved[1], &moved[2])
        };
        (at(1e-5) - at(-1e-5)) / 2e-5
    };
    for isa in Isa::available() {
        let (mut y, mut statistics) = (vec![0.0; width], vec![0.0; 2]);
        layer_norm(isa, &mut y, &mut statistics, &x, &scale, &shift, eps);
        let (mut dx, mut dscale, mut dshift) =
            (vec![0.0; width], vec![0.0; width], vec![0.0; width]);
        let step = LayerNormBackward {
            dx: &mut dx,
            accumulate: false,
            dscale: &mut dscale,
            dshift: &mut dshift,
            dy: &weights,
            x: &x,
            statistics: &statistics,
            scale: &scale,
        };
        layer_norm_backward(isa, step);
        for (which, gradient) in [&dx, &dscale, &dshift].into_iter().enumerate() {
            for (i, g) in gradient.iter().enumerate() {
                let wanted = slope(which, i);
                assert!(
                    (f64::from(*g) - wanted).abs() < 1e-4 * (1.0 + wanted.abs()),
                    "{which} {i}: {g} {wanted}"
                );
            }
        }
    }
}

/// RMS norm is its definition, in f64, and the gradients of Σ w·y of its output y are slopes.
#[test]
fn rms_norm_and_its_gradients_are_those_of_the_definition() {
    for width in [1, 9, 16, 70] {
        let (x, weights, scale) = (numbers(width, 3), numbers(width, 4), numbers(width, 5));
        let eps = 1e-5;
        let y = |x: &[f64], scale: &[f64]| -> Vec<f64> {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / width as f64;
            let inverse = 1.0 / (mean + f64::from(eps)).sqrt();
            (0..width).map(|i| x[i] * inverse * scale[i]).collect()
        };
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|v| f64::from(*v)).collect() };
        let inputs = [wide(&x), wide(&scale)];
        let slope = |which: usize, i: usize| {
            let at = |by: f64| -> f64 {
                let mut moved = inputs.clone();
                moved[which][i] += by;
                let y = y(&moved[0], &moved[1]);
                y.iter().zip(&weights).map(|(y, w)| y * f64::from(*w)).sum()
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        };
        let all = same_everywhere(|isa| {
            let (mut y, mut inverse) = (vec![0.0; width], vec![0.0]);
            rms_norm(isa, &mut y, &mut inverse, &x, &scale, eps);
            let (mut dx, mut dscale) = (vec![1.0; width], vec![0.0; width]);
            let step = RmsNormBackward {
                dx: &mut dx,
                accumulate: true,
                dscale: &mut dscale,
                dy: &weights,
                x: &x,
                inverse: &inverse,
                scale: &scale,
            };
            rms_norm_backward(isa, step);
            dx.iter_mut().for_each(|d| *d -= 1.0);
            [y, dx, dscale].concat()
        });
        for (found, wanted) in all[..width].iter().zip(y(&inputs[0], &inputs[1])) {
            assert!(
                (f64::from(*found) - wanted).abs() < 1e-5,
                "{found} {wanted}"
            );
        }
        for (i, found) in all[width..].iter().enumerate() {
            let wanted = slope(i / width, i % width);
            let error = (f64::from(*found) - wanted).abs();
            assert!(error < 1e-4 * (1.0 + wanted.abs()), "{i}: {found} {wanted}");
        }
    }
}
