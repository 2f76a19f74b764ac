//! The non-linearities of the feed-forward block, and their slopes.

use crate::dropout::Dropout;
use crate::isa::multiversion;
use crate::math::{erf, exp, sigmoid};

/// The non-linearities of models' feed-forward blocks and heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(0, x).
    Relu,
    /// max(0, x)².
    ReluSquared,
    /// x·Φ(x).
    Gelu,
    /// x·sigmoid(x).
    Swish,
    /// x·Φ(x) with tanh in place of the error function: 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
    GeluTanh,
    /// x·sigmoid(1.702·x).
    GeluSigmoid,
    /// tanh(x).
    Tanh,
}

/// √(2/π).
const GELU_TANH: f32 = 0.797_884_6;
const GELU_CUBE: f32 = 0.044_715;
/// With this factor the logistic function is close to Φ.
const GELU_SIGMOID: f32 = 1.702;

/// 2·sigmoid(2x) − 1.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0f32.mul_add(sigmoid(2.0 * x), -1.0)
}

/// Unlike `f32::max`, which passes NaN over.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

#[inline(always)]
pub(crate) fn value(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Relu => relu(x),
        Activation::ReluSquared => relu(x) * relu(x),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::Swish => x * sigmoid(x),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + tanh(GELU_TANH * x * (GELU_CUBE * x).mul_add(x, 1.0)))
        }
        Activation::GeluSigmoid => x * sigmoid(GELU_SIGMOID * x),
        Activation::Tanh => tanh(x),
    }
}

#[inline(always)]
fn slope(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Relu => {
            if x > 0.0 {
                1.0
            } else {
                0.0
            }
        }
        Activation::ReluSquared => 2.0 * relu(x),
        Activation::Gelu => {
            let phi = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
            // The normal density at x: 1/√(2π) · e^(−x²/2).
            phi + x * 0.398_942_3 * exp(-0.5 * x * x)
        }
        Activation::Swish => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        Activation::GeluTanh => {
            let t = tanh(GELU_TANH * x * (GELU_CUBE * x).mul_add(x, 1.0));
            let inner = GELU_TANH * (3.0 * GELU_CUBE * x).mul_add(x, 1.0);
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
        }
        Activation::GeluSigmoid => {
            let s = sigmoid(GELU_SIGMOID * x);
            s * (1.0 + GELU_SIGMOID * x * (1.0 - s))
        }
        Activation::Tanh => {
            let t = tanh(x);
            1.0 - t * t
        }
    }
}

/// Runs `$run!(KIND)` for the kind at hand, so that the choice is made once and not for each number.
macro_rules! for_kind {
    ($kind:expr, $run:ident) => {
        match $kind {
            $crate::Activation::Relu => $run!($crate::Activation::Relu),
            $crate::Activation::ReluSquared => $run!($crate::Activation::ReluSquared),
            $crate::Activation::Gelu => $run!($crate::Activation::Gelu),
            $crate::Activation::Swish => $run!($crate::Activation::Swish),
            $crate::Activation::GeluTanh => $run!($crate::Activation::GeluTanh),
            $crate::Activation::GeluSigmoid => $run!($crate::Activation::GeluSigmoid),
            $crate::Activation::Tanh => $run!($crate::Activation::Tanh),
        }
    };
}

pub(crate) use for_kind;

multiversion! {
    /// `out = dropout(activation(x))`.
    pub fn activate(out: &mut [f32], x: &[f32], activation: Activation, dropout: Dropout) -> () {
        let x = &x[..out.len()];
        macro_rules! run {
            ($kind:expr) => {
                for i in 0..out.len() {
                    out[i] = value($kind, x[i]);
                }
            };
        }
        for_kind!(activation, run);
        if !dropout.is_none() {
            for (i, v) in out.iter_mut().enumerate() {
                *v *= dropout.factor(i as u32);
            }
        }
    }
}

multiversion! {
    /// `d = d · dropout · activation'(x)`, in place. For a ReLU `x` may be its result, dropped out or not.
    pub fn activate_backward(d: &mut [f32], x: &[f32], activation: Activation, dropout: Dropout) -> () {
        let x = &x[..d.len()];
        if !dropout.is_none() {
            for (i, v) in d.iter_mut().enumerate() {
                *v *= dropout.factor(i as u32);
            }
        }
        macro_rules! run {
            ($kind:expr) => {
                for i in 0..d.len() {
                    d[i] *= slope($kind, x[i]);
                }
            };
        }
        for_kind!(activation, run);
    }
}

multiversion! {
    /// `out = activation(a) · b`.
    pub fn gate(out: &mut [f32], a: &[f32], b: &[f32], activation: Activation) -> () {
        assert!(a.len() == out.len() && b.len() == out.len(), "equal lengths");
        let (a, b) = (&a[..out.len()], &b[..out.len()]);
        macro_rules! run {
            ($kind:expr) => {
                for i in 0..out.len() {
                    out[i] = value($kind, a[i]) * b[i];
                }
            };
        }
        for_kind!(activation, run);
    }
}

multiversion! {
    /// The gradients of what [`gate`] was given: `da = d · b · activation'(a)`, `db = d · activation(a)`.
    pub fn gate_backward(da: &mut [f32], db: &mut [f32], d: &[f32], a: &[f32], b: &[f32], activation: Activation) -> () {
        assert!([da.len(), db.len(), a.len(), b.len()] == [d.len(); 4], "equal lengths");
        let (da, db) = (&mut da[..d.len()], &mut db[..d.len()]);
        let (a, b) = (&a[..d.len()], &b[..d.len()]);
        macro_rules! run {
            ($kind:expr) => {
                for i in 0..d.len() {
                    da[i] = d[i] * b[i] * slope($kind, a[i]);
                    db[i] = d[i] * value($kind, a[i]);
                }
            };
        }
        for_kind!(activation, run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::numbers;

    const KINDS: [Activation; 7] = [
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Gelu,
        Activation::Swish,
        Activation::GeluTanh,
        Activation::GeluSigmoid,
        Activation::Tanh,
    ];

    /// The definitions, in f64. Φ by its series, which is exact enough for |x| < 4.
    fn defined(kind: Activation, x: f64) -> f64 {
        let normal = || {
            let (mut term, mut sum) = (x, x);
            for k in 1..200 {
                term *= x * x / f64::from(2 * k + 1);
                sum += term;
            }
            0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
        };
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        match kind {
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0).powi(2),
            Activation::Gelu => x * normal(),
            Activation::Swish => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => 0.5 * x * (1.0 + inner.tanh()),
            Activation::GeluSigmoid => x / (1.0 + (-1.702 * x).exp()),
            Activation::Tanh => x.tanh(),
        }
    }

    #[test]
    fn values_and_slopes_are_those_of_the_definitions() {
        for kind in KINDS {
            for i in -350..=350 {
                let x = f64::from(i) / 100.0 + 0.003;
                let found = f64::from(value(kind, x as f32));
                let expected = defined(kind, x);
                assert!(
                    (found - expected).abs() < 2e-6,
                    "{kind:?} {x}: {found} {expected}"
                );
                let expected = (defined(kind, x + 1e-5) - defined(kind, x - 1e-5)) / 2e-5;
                let found = f64::from(slope(kind, x as f32));
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{kind:?} {x}: {found} {expected}"
                );
            }
            for x in [f32::NAN, f32::INFINITY, -1e30, 1e30] {
                assert_eq!(value(kind, x).is_nan(), x.is_nan(), "{kind:?} {x}");
            }
        }
    }

    #[test]
    fn a_gate_and_its_gradient_are_those_of_the_definition_on_every_instruction_set() {
        for n in [1, 15, 66, 256] {
            let (a, b, d) = (numbers(n, 1), numbers(n, 3), numbers(n, 2));
            for kind in KINDS {
                let run = |isa| {
                    let [mut out, mut da, mut db] = [0; 3].map(|_| vec![0.0; n]);
                    gate(isa, &mut out, &a, &b, kind);
                    gate_backward(isa, &mut da, &mut db, &d, &a, &b, kind);
                    (out, da, db)
                };
                let (out, da, db) = run(Isa::SCALAR);
                for i in 0..n {
                    assert_eq!(out[i], value(kind, a[i]) * b[i]);
                    assert_eq!(da[i], d[i] * b[i] * slope(kind, a[i]));
                    assert_eq!(db[i], d[i] * value(kind, a[i]));
                }
                for isa in Isa::available() {
                    let same = (out.clone(), da.clone(), db.clone());
                    assert_eq!(run(isa), same, "{isa:?}");
                }
            }
        }
    }
}
