//! The non-linearities of the feed-forward block, and their slopes.

use crate::dropout::Dropout;
use crate::isa::multiversion;
use crate::math::{erf, exp, sigmoid};

/// The non-linearities of the feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(0, x).
    Relu,
    /// x·Φ(x).
    Gelu,
    /// x·sigmoid(x).
    Swish,
}

#[inline(always)]
pub(crate) fn value(activation: Activation, x: f32) -> f32 {
    match activation {
        // Unlike `f32::max`, which passes NaN over.
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::Swish => x * sigmoid(x),
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
        Activation::Gelu => {
            let phi = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
            // The normal density at x: 1/√(2π) · e^(−x²/2).
            phi + x * 0.398_942_3 * exp(-0.5 * x * x)
        }
        Activation::Swish => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
    }
}

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
        match activation {
            Activation::Relu => run!(Activation::Relu),
            Activation::Gelu => run!(Activation::Gelu),
            Activation::Swish => run!(Activation::Swish),
        }
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
        match activation {
            Activation::Relu => run!(Activation::Relu),
            Activation::Gelu => run!(Activation::Gelu),
            Activation::Swish => run!(Activation::Swish),
        }
    }
}
