//! What is done with a product's outputs before they are stored.

use crate::activation::{Activation, value};
use crate::isa::multiversion;
use crate::matrix::Plus;

/// What a product is added to, and what its outputs then go through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epilogue<'a> {
    /// What the product is added to.
    pub plus: Plus<'a>,
    /// Applied last, if any, while the outputs are still in the nearest cache. NaN stays NaN, with [`Activation::Relu`]
    /// too.
    pub activation: Option<Activation>,
}

impl<'a> From<Plus<'a>> for Epilogue<'a> {
    /// No activation.
    fn from(plus: Plus<'a>) -> Self {
        Epilogue {
            plus,
            activation: None,
        }
    }
}

multiversion! {
    /// `x = activation(x)`.
    pub(crate) fn activate_in_place(x: &mut [f32], activation: Activation) -> () {
        match activation {
            Activation::Relu => x.iter_mut().for_each(|v| *v = value(Activation::Relu, *v)),
            Activation::Gelu => x.iter_mut().for_each(|v| *v = value(Activation::Gelu, *v)),
            Activation::Swish => x.iter_mut().for_each(|v| *v = value(Activation::Swish, *v)),
        }
    }
}
